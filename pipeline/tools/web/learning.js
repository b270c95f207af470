// A model whose head learns, what it is taught, and the file that keeps what it has learned.

const CHECKPOINT_FORMAT = 1, ENTRY = "viewfinder_checkpoint";

function floats(bytes) {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4); // little endian, as every browser's machine is
}

/** A model that answers pictures and learns. One thing at a time: others wait for their turn. */
class Learner extends Classifier {
  turn = Promise.resolve();

  static async load(litert, about) {
    const content = await asset(`model-${about.scheme}`);
    return new Learner(litert, await litert.loadAndCompile(content, {accelerator: "wasm"}), about);
  }

  /** Run a signature with arrays and their shapes by name; return arrays by name. */
  run(signature, inputs) {
    const work = async () => {
      const given = Object.fromEntries(Object.entries(inputs).map(([name, [array, shape]]) => [name, new this.litert.Tensor(array, shape)]));
      const found = await this.model.run(signature, given);
      const arrays = Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.toTypedArray().slice()]));
      for (const used of [...Object.values(given), ...Object.values(found)]) used.delete();
      return arrays;
    };
    return (this.turn = this.turn.then(work, work));
  }

  infer(image) {
    const side = this.about.input_pixels, input = toModelInput(image, side, this.about.resize);
    const pixels = this.about.input_type === "float32" ? Float32Array.from(input) : input;
    return this.run("infer", {image: [pixels, [1, side, side, 3]]});
  }

  async classify(image) {
    const begin = performance.now(), {probabilities} = await this.infer(image);
    return {probabilities: Array.from(probabilities.slice(0, this.about.labels.length)), milliseconds: performance.now() - begin};
  }

  /** Take one step on some rows; the rest of the batch is padding. Return the loss before it. */
  async train(rows, {learning_rate, momentum}) {
    const {batch_size, num_features, num_outputs} = about.teach.head;
    const features = new Float32Array(batch_size * num_features), labels = new Float32Array(batch_size * num_outputs);
    rows.forEach(({feature, row}, index) => {
      features.set(feature, index * num_features);
      labels[index * num_outputs + row] = 1;
    });
    const {loss} = await this.run("train", {
      features: [features, [batch_size, num_features]], labels: [labels, [batch_size, num_outputs]],
      learning_rate: [new Float32Array([learning_rate]), [1]], momentum: [new Float32Array([momentum]), [1]],
    });
    return loss[0];
  }

  save() {
    return this.run("save", {unused: [new Float32Array(1), [1]]});
  }

  restore({weights, bias}) {
    const {num_outputs, num_features} = about.teach.head;
    return this.run("restore", {weights: [weights, [num_outputs, num_features]], bias: [bias, [num_outputs]]});
  }
}

/** All that is taught and asked in this page. */
class Pupil {
  constructor(learner, start, replay, check) {
    Object.assign(this, {learner, start, replay, check});
    this.labels = [...learner.about.labels]; // those that shipped
    this.forget();
  }

  static async of(learner) {
    const rows = async name => {
      const {rows, shape} = about.teach[name], numbers = floats(await asset(name));
      return rows.map((row, index) => ({row, feature: numbers.subarray(index * shape[1], (index + 1) * shape[1])}));
    };
    return new Pupil(learner, await learner.save(), await rows("replay"), await rows("check"));
  }

  get all() {
    return [...this.labels, ...this.newLabels];
  }

  forget() {
    [this.newLabels, this.examples] = [[], []];
    return this.learner.restore(this.start);
  }

  /** Return the row of a label; -1 if there is no room for one more. */
  rowOf(label) {
    if (this.all.includes(label)) return this.all.indexOf(label);
    if (this.newLabels.length === about.teach.head.num_new_labels) return -1;
    this.newLabels.push(label);
    return this.all.length - 1;
  }

  /** Begin with what shipped and teach all examples, so that their order does not matter. Return the last loss. */
  async learn(isReplayed, tell) {
    const recipe = about.teach.training, size = about.teach.head.batch_size;
    const numOld = isReplayed ? Math.round(recipe.replay_share * size) : 0;
    const drawn = (rows, count) => Array.from({length: count}, () => rows[Math.floor(Math.random() * rows.length)]);
    let loss = 0;
    await this.learner.restore(this.start);
    for (let step = 0; step < recipe.steps && this.examples.length; step++) {
      loss = await this.learner.train([...drawn(this.examples, size - numOld), ...drawn(this.replay, numOld)], recipe);
      if (step % 10 === 0) {
        tell(step / recipe.steps);
        await new Promise(next => setTimeout(next)); // the page moves meanwhile
      }
    }
    return loss;
  }

  /** Return for some rows whether a head names them rightly. */
  areRight(rows, {weights, bias}) {
    const length = about.teach.head.num_features, numNamed = about.teach.head.num_labels + about.teach.head.num_new_labels;
    return rows.map(({feature, row}) => {
      const logits = Array.from({length: numNamed}, (_, output) => {
        let sum = bias[output];
        for (let i = 0, place = output * length; i < length; i++) sum += weights[place + i] * feature[i];
        return sum;
      });
      return logits.indexOf(Math.max(...logits)) === row;
    });
  }

  /** Return the rows of the table: each label with the share of frames that were and are named rightly. */
  async report() {
    const now = await this.learner.save();
    const share = (flags, rows, row) => {
      const own = flags.filter((_, index) => rows[index].row === row);
      return own.length ? own.filter(Boolean).length / own.length : null;
    };
    const before = this.areRight(this.check, this.start), after = this.areRight(this.check, now);
    const learned = this.areRight(this.examples, now);
    const old = this.labels.map((label, row) => [label, share(before, this.check, row), share(after, this.check, row)]);
    const total = flags => (flags.length ? flags.filter(Boolean).length / flags.length : null);
    const fresh = this.newLabels.map((label, index) => [`${label} (taught)`, null, share(learned, this.examples, this.labels.length + index)]);
    return [...old, ["all that it knew", total(before), total(after)], ...fresh];
  }

  /** Return what was learned as a safetensors file. */
  async checkpoint() {
    const {num_outputs, num_features} = about.teach.head, {weights, bias} = await this.learner.save();
    const examples = new Float32Array(this.examples.length * num_features);
    this.examples.forEach(({feature}, index) => examples.set(feature, index * num_features));
    const told = {
      format: CHECKPOINT_FORMAT, version: about.teach.version, new_labels: this.newLabels, example_rows: this.examples.map(({row}) => row),
    };
    return packed({[ENTRY]: JSON.stringify(told)}, {
      weights: [weights, [num_outputs, num_features]], bias: [bias, [num_outputs]], examples: [examples, [this.examples.length, num_features]],
    });
  }

  /** Know what a file keeps. Throw what a person can read if it is damaged, or of another model. */
  async resume(bytes) {
    const {told, arrays} = unpacked(bytes), {num_outputs, num_features, num_labels, num_new_labels} = about.teach.head;
    const last = num_labels + told.new_labels.length, rows = told.example_rows;
    const sizes = {weights: num_outputs * num_features, bias: num_outputs, examples: rows.length * num_features};
    const fits = Object.entries(sizes).every(([name, size]) => arrays[name]?.length === size && arrays[name].every(Number.isFinite));
    if (!fits || told.new_labels.length > num_new_labels || !rows.every(row => row >= num_labels && row < last)) {
      throw new Error("it has another shape than this model's head");
    }
    await this.learner.restore(arrays);
    this.newLabels = told.new_labels.map(String);
    this.examples = rows.map((row, index) => ({row, feature: arrays.examples.slice(index * num_features, (index + 1) * num_features)}));
  }
}

/** Write a safetensors file: the length of a header, the header, the numbers. */
function packed(metadata, arrays) {
  const header = {__metadata__: metadata};
  let end = 0;
  for (const [name, [array, shape]] of Object.entries(arrays)) {
    header[name] = {dtype: "F32", shape, data_offsets: [end, (end += array.byteLength)]};
  }
  const text = new TextEncoder().encode(JSON.stringify(header)), length = Math.ceil(text.length / 8) * 8;
  const start = new Uint8Array(8 + length).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(length), true);
  start.set(text, 8);
  return new Blob([start, ...Object.values(arrays).map(([array]) => array)]);
}

/** Read one, and what its header tells of this model. */
function unpacked(bytes) {
  let header, told;
  const arrays = {};
  try {
    const begin = 8 + Number(new DataView(bytes).getBigUint64(0, true));
    header = JSON.parse(new TextDecoder("utf-8", {fatal: true}).decode(new Uint8Array(bytes, 8, begin - 8)));
    told = JSON.parse(header.__metadata__[ENTRY]);
    for (const [name, {dtype, data_offsets: [from, to]}] of Object.entries(header).filter(([name]) => name !== "__metadata__")) {
      if (dtype !== "F32") throw new Error(`${name} is ${dtype}`);
      arrays[name] = new Float32Array(bytes.slice(begin + from, begin + to), 0, (to - from) / 4);
    }
  } catch {
    throw new Error("it is no checkpoint, or a damaged one");
  }
  if (told.format !== CHECKPOINT_FORMAT) throw new Error(`it is of format ${told.format}, not ${CHECKPOINT_FORMAT}`);
  if (told.version !== about.teach.version) throw new Error(`it is of the model ${told.version}, and this is ${about.teach.version}`);
  if (!Array.isArray(told.new_labels) || !Array.isArray(told.example_rows)) throw new Error("it does not name its labels");
  return {told, arrays};
}
