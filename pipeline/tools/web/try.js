// The page: what is seen on one side, what the models say on the other.

const about = JSON.parse(document.getElementById("about").textContent);
const element = Object.fromEntries(
  ["proof", "stage", "video", "picture", "hint", "camera", "turn", "open", "pause", "file", "trouble", "models", "spoken"]
    .map(id => [id, document.getElementById(id)]));
const NONE_OF_THEM = "none of them";
const MOST_LABELS = 30, NUM_BEST = 10; // of more labels than that, the most probable are shown
const SPOKEN_MILLISECONDS = 1500; // between two answers that a screen reader is told

const scratch = document.createElement("canvas");
const WIDTH = about.film ? 1280 : 640; // what is filmed should be as good as what the phone's own camera films
let panels = [], source = null, shownFile = null, spokenAt = 0, spoken = "", facing = "environment", isFilming = false;

function tellTrouble(text) {
  element.trouble.textContent = text;
  element.trouble.hidden = !text;
}

/** Return the pixels of a picture, a video's frame or a canvas, as they are: neither turned nor mirrored. */
function pixelsOf(drawn, width, height) {
  scratch.width = width;
  scratch.height = height;
  const context = scratch.getContext("2d", {willReadFrequently: true, colorSpace: "srgb"});
  context.drawImage(drawn, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// ---- what the models say

function made(tag, className, parent) {
  const one = document.createElement(tag);
  one.className = className;
  parent.append(one);
  return one;
}

/** Return the indices of the largest numbers, the largest first. */
function best(numbers, count) {
  return [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a]).slice(0, count);
}

/** What one model says. */
class Panel {
  constructor(classifier) {
    this.classifier = classifier;
    const {scheme, size_bytes, labels, threshold} = classifier.about;
    const box = this.box = made("article", "model", element.models), head = made("div", "about", box);
    made("h2", "", head).textContent = `${scheme}, ${(size_bytes / 2 ** 20).toFixed(1)} MiB`;
    this.speed = made("p", "speed", head);
    this.answer = made("p", "answer none", box);
    this.answer.textContent = "…";
    this.heads = classifier.about.heads.map(({name}) => {
      const line = made("p", "head", box);
      made("span", "question", line).textContent = `${name}: `;
      return made("span", "said", line);
    });
    const list = made("ul", "bars", box);
    list.tabIndex = 0;
    list.setAttribute("aria-label", `Probabilities by ${scheme}`);
    this.rows = labels.slice(0, labels.length > MOST_LABELS ? NUM_BEST : MOST_LABELS).map(text => {
      const row = made("li", "", list), label = made("span", "label", row);
      label.textContent = text;
      const track = made("div", "track", row), fill = made("div", "fill", track);
      if (threshold) made("div", "limit", track).style.left = `${100 * threshold}%`;
      track.setAttribute("aria-hidden", "true");
      return {row, label, fill, value: made("span", "value", row)};
    });
    this.frames = [];
  }

  async show(image) {
    const {probabilities, milliseconds} = await this.classifier.classify(image);
    const named = this.classifier.named(probabilities), labels = this.classifier.about.labels;
    this.box.dataset.probabilities = JSON.stringify(probabilities);
    this.said = named < 0 ? NONE_OF_THEM : labels[named];
    this.answer.textContent = this.said;
    this.answer.classList.toggle("none", named < 0);
    this.classifier.namedByHeads(probabilities).forEach(({named: said}, place) => {
      this.heads[place].textContent = said.join(", ") || NONE_OF_THEM;
    });
    const shown = labels.length > MOST_LABELS ? best(probabilities.slice(0, labels.length), NUM_BEST) : labels.keys();
    [...shown].forEach((index, place) => {
      const {row, label, fill, value} = this.rows[place];
      label.textContent = labels[index];
      fill.style.width = `${100 * probabilities[index]}%`;
      value.textContent = `${(100 * probabilities[index]).toFixed(0)}%`;
      row.classList.toggle("best", index === named);
    });
    const now = performance.now();
    this.frames = [...this.frames.filter(one => one.at > now - 2000), {at: now, milliseconds}];
    const typical = this.frames.map(one => one.milliseconds).sort((a, b) => a - b)[this.frames.length >> 1];
    const seconds = (now - this.frames[0].at) / 1000;
    const rate = this.frames.length > 1 && seconds > 0 ? `, ${((this.frames.length - 1) / seconds).toFixed(0)} frames/s` : "";
    this.speed.textContent = `${typical.toFixed(0)} ms${rate}`;
    return probabilities;
  }
}

async function showAll(image) {
  if (isFilming || !panels.length) return;
  for (const panel of panels) await panel.show(image);
  const now = performance.now(), said = panels[0].said;
  if (said !== spoken && now > spokenAt + SPOKEN_MILLISECONDS) {
    element.spoken.textContent = said;
    [spoken, spokenAt] = [said, now];
  }
}

// ---- what is seen

/** Tell which file is shown, if it is one. */
function setShownFile(file) {
  shownFile = file;
  element.stage.dispatchEvent(new Event("shown"));
}

function leave() {
  setShownFile(null);
  source?.stop();
  source = null;
  element.video.pause();
  element.video.removeAttribute("src");
  element.video.srcObject = null;
  for (const one of [element.video, element.picture, element.turn, element.pause]) one.hidden = true;
  element.video.classList.remove("mirrored");
  element.camera.textContent = "Start camera";
  element.hint.hidden = false;
  tellTrouble("");
}

/** Ask the models about each frame that the video shows, as fast as they answer. */
function follow(stop) {
  let runs = true;
  const video = element.video;
  const next = video.requestVideoFrameCallback ? again => video.requestVideoFrameCallback(again) : requestAnimationFrame;
  const look = async () => {
    if (!runs) return;
    if (video.readyState >= 2 && video.videoWidth) await showAll(pixelsOf(video, video.videoWidth, video.videoHeight));
    if (runs) next(look);
  };
  source = {stop() { runs = false; stop(); }};
  element.hint.hidden = true;
  element.video.hidden = element.pause.hidden = false;
  next(look);
}

async function startCamera() {
  leave();
  if (!navigator.mediaDevices?.getUserMedia) {
    return tellTrouble("Browsers give the camera to pages from https, localhost or a file alone. Pictures and videos can be opened here, too.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({audio: false, video: {facingMode: facing, width: {ideal: WIDTH}, height: {ideal: WIDTH * (about.film ? 9 / 16 : 3 / 4)}}});
  } catch (error) {
    const why = {
      NotAllowedError: "The camera is not allowed to this page: allow it beside the page's address, and start again.",
      NotFoundError: "There is no camera here. Open a picture or a video instead.",
      NotReadableError: "Another program uses the camera.",
    };
    return tellTrouble(why[error.name] ?? `The camera does not start (${error.message || error.name}).`);
  }
  const settings = stream.getVideoTracks()[0].getSettings();
  element.video.srcObject = stream;
  element.video.classList.toggle("mirrored", settings.facingMode !== "environment"); // as a mirror: what is shown, not what is asked
  follow(() => stream.getTracks().forEach(track => track.stop()));
  await element.video.play();
  element.camera.textContent = "Stop camera";
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(device => device.kind === "videoinput");
  element.turn.hidden = cameras.length < 2;
}

async function openFile(file) {
  leave();
  const address = URL.createObjectURL(file);
  if (file.type.startsWith("video/")) {
    element.video.loop = true;
    element.video.src = address;
    follow(() => URL.revokeObjectURL(address));
    try {
      await element.video.play();
      setShownFile(file);
    } catch {
      leave();
      tellTrouble(`This browser cannot play ${file.name}.`);
    }
    return;
  }
  try {
    const bitmap = await createImageBitmap(file); // upright, as the camera noted it
    element.picture.width = bitmap.width;
    element.picture.height = bitmap.height;
    element.picture.getContext("2d").drawImage(bitmap, 0, 0);
    element.hint.hidden = true;
    element.picture.hidden = false;
    setShownFile(file);
    await showAll(pixelsOf(bitmap, bitmap.width, bitmap.height));
  } catch {
    leave();
    tellTrouble(`This browser cannot open ${file.name} as a picture or a video.`);
  } finally {
    URL.revokeObjectURL(address);
  }
}

function togglePause() {
  const runs = element.video.paused;
  runs ? element.video.play() : element.video.pause();
  element.pause.textContent = runs ? "Pause" : "Go on";
  element.pause.setAttribute("aria-pressed", String(!runs));
}

// ---- the proof

/** Run pictures with known answers; tell whether this browser answers as the phone does. */
async function prove() {
  if (!panels.length) {
    element.proof.textContent = "There is no model yet: film some takes, and run dvc repro.";
    return 1;
  }
  let factor = 1, worst = "";
  for (const golden of about.golden.pictures) {
    const bitmap = await createImageBitmap(new Blob([await asset(golden.asset)], {type: "image/png"}));
    const image = pixelsOf(bitmap, bitmap.width, bitmap.height);
    for (const panel of panels) {
      const {probabilities} = await panel.classifier.classify(image);
      golden.expected[panel.classifier.about.scheme].forEach((expected, index) => {
        const [found, known] = [probabilities[index], expected].map(p => Math.max(p, about.golden.floor));
        const ratio = Math.max(found / known, known / found);
        if (ratio > factor) {
          factor = ratio;
          const names = [panel.classifier.about, ...panel.classifier.about.heads].flatMap(head => head.labels);
          worst = `${panel.classifier.about.scheme} gives ${names[index]} ${found.toPrecision(3)} instead of ${known.toPrecision(3)}`;
        }
      });
    }
  }
  const isRight = factor <= about.golden.max_factor;
  element.proof.className = isRight ? "good" : "bad";
  element.proof.textContent = isRight
    ? `Answers as on the phone: ${about.golden.pictures.length} pictures with known answers`
    : `Does not answer as on the phone: ${worst}`;
  return factor;
}
