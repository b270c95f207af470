// LiteRT, the phone's own runtime, from what this page brings along.

/** Return a file that the page holds, as bytes. */
async function asset(name) {
  const packed = Uint8Array.from(atob(document.getElementById(`asset-${name}`).textContent), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return an address at which the browser finds a script that the page holds. */
function addressOf(script) {
  return URL.createObjectURL(new Blob([script], {type: "text/javascript"}));
}

/** Load LiteRT, for the processor alone. It looks for a GPU all the same, and would warn on the console of finding none. */
async function loadRuntime() {
  Object.defineProperty(navigator, "gpu", {value: undefined, configurable: true});
  const warn = console.warn;
  console.warn = () => {};
  const text = async name => new TextDecoder().decode(await asset(name));
  const helpers = addressOf(await text("helpers"));
  const litert = await import(addressOf((await text("litert")).replaceAll('"@litertjs/wasm-utils"', JSON.stringify(helpers))));
  self.Module = {wasmBinary: await asset("wasm"), print() {}, printErr() {}};
  await litert.loadLiteRt(`${addressOf(await asset("loader"))}#.js`); // the ending that it asks for
  console.warn = warn;
  return litert;
}

/** Return the index of the most probable label; -1 if it is less probable than the threshold. */
function mostProbable(probabilities, threshold) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  return probabilities[best] >= (threshold ?? 0) ? best : -1;
}

/** A model that answers pictures. */
class Classifier {
  constructor(litert, model, about) {
    this.litert = litert;
    this.model = model;
    this.about = about;
  }

  static async load(litert, about) {
    const content = await asset(`model-${about.scheme}`);
    return new Classifier(litert, await litert.loadAndCompile(content, {accelerator: "wasm"}), about);
  }

  /** Return the probability of each label for a picture (an ImageData), those of all heads one behind the other, and how many milliseconds the model took. */
  async classify(image) {
    const side = this.about.input_pixels, input = toModelInput(image, side, this.about.resize);
    const begin = performance.now();
    const pixels = this.about.input_type === "float32" ? Float32Array.from(input) : input;
    const tensor = new this.litert.Tensor(pixels, [1, side, side, 3]);
    const outputs = await this.model.run(tensor);
    const probabilities = outputs.flatMap(output => Array.from(output.toTypedArray()));
    for (const used of [tensor, ...outputs]) used.delete();
    return {probabilities, milliseconds: performance.now() - begin};
  }

  /** Return the index of what the first head names; -1 if it is none of the labels. */
  named(probabilities) {
    return mostProbable(probabilities.slice(0, this.about.labels.length), this.about.threshold);
  }

  /** Return for each further head its name and the labels that it names: none, one, or several if they may be true together. */
  namedByHeads(probabilities) {
    let end = this.about.labels.length;
    return this.about.heads.map(({name, labels, threshold, may_name_several}) => {
      const own = probabilities.slice(end, end += labels.length), best = mostProbable(own, threshold);
      const named = may_name_several ? labels.filter((_, index) => own[index] >= threshold) : best < 0 ? [] : [labels[best]];
      return {name, named};
    });
  }
}
