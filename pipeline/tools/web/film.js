// Takes: five seconds of a label, or the file that is shown, sent to the computer that shows this page.

const film = Object.fromEntries(["film", "what", "labels", "new", "name", "filmed", "again", "advice"].map(id => [id, document.getElementById(id)]));
const SECONDS = 5;
const NONE = "_none";
// The first that the browser records; all of them are read by the pipeline.
const TYPES = ["video/mp4;codecs=avc1.42E01F", "video/mp4", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const NEXT = ["in another place", "in other light", "from nearer", "from farther away", "from another side"];
let waiting = null, isBusy = false, numFilmed = 0;

function nameOf(label) {
  return label === NONE ? "none of them" : label;
}

function tellFilmed(text, isBad = false) {
  film.filmed.textContent = text;
  film.filmed.classList.toggle("bad", isBad);
}

/** Show a button for each label with how many takes it has, and what to film next. */
function showLabels({labels, advice}) {
  film.labels.replaceChildren(...Object.entries(labels).map(([label, count]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(nameOf(label));
    const told = document.createElement("span");
    told.className = "count";
    told.textContent = count === 1 ? "1 take" : `${count} takes`;
    button.append(told);
    button.onclick = () => alone(() => takeFor(label, button));
    return button;
  }));
  film.advice.replaceChildren(...advice.map(sentence => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  }));
}

/** Record what the camera sees for some seconds. */
function record(stream, seconds) {
  return new Promise((done, fail) => {
    const type = TYPES.find(one => MediaRecorder.isTypeSupported(one));
    const recorder = new MediaRecorder(stream, {...(type ? {mimeType: type} : {}), videoBitsPerSecond: 8_000_000});
    const pieces = [];
    recorder.ondataavailable = event => pieces.push(event.data);
    recorder.onerror = event => fail(event.error);
    recorder.onstop = () => done(new Blob(pieces, {type: recorder.mimeType.split(";")[0]}));
    recorder.start();
    setTimeout(() => recorder.state === "recording" && recorder.stop(), 1000 * seconds);
  });
}

/** Do one thing at a time: a touch in the meantime does nothing. */
async function alone(work) {
  if (isBusy) return;
  isBusy = true;
  try {
    await work();
  } finally {
    isBusy = false;
  }
}

/** Send the file that is shown as a take of a label; film one if none is. */
async function takeFor(label, button) {
  if (waiting) await send(); // one at a time: none is given up for the next
  if (waiting) return;
  if (shownFile) waiting = {label, blob: shownFile};
  else await filmTake(label, button);
  if (waiting) await send();
}

async function filmTake(label, button) {
  if (!element.video.srcObject) await startCamera();
  const stream = element.video.srcObject;
  if (!stream) return;
  if (element.video.paused) togglePause();
  isFilming = true;
  const buttons = [...film.film.querySelectorAll("button"), element.camera, element.turn, element.open, element.pause];
  const before = buttons.map(one => one.disabled);
  buttons.forEach(one => (one.disabled = true));
  button.classList.add("filming");
  let left = SECONDS;
  const count = () => tellFilmed(`Filming ${nameOf(label)}: ${left--} s. Move around it.`);
  count();
  const clock = setInterval(count, 1000);
  try {
    const blob = await record(stream, SECONDS);
    clearInterval(clock);
    waiting = {label, blob};
  } catch (error) {
    tellFilmed(`This browser could not record (${error?.message ?? error}).`, true);
  } finally {
    clearInterval(clock);
    isFilming = false;
    buttons.forEach((one, index) => (one.disabled = before[index]));
    button.classList.remove("filming");
  }
}

/** Send the take that waits; it is kept until the computer has it. */
async function send() {
  const {label, blob} = waiting;
  film.again.hidden = true;
  tellFilmed(`Sending ${(blob.size / 1e6).toFixed(1)} MB …`);
  let response, text;
  try {
    response = await fetch(`takes?label=${encodeURIComponent(label)}`, {
      method: "POST", headers: {"Content-Type": blob.type, "X-Viewfinder": "film"}, body: blob,
    });
    text = await response.text();
  } catch {
    tellFilmed("The computer does not answer: is viewfinder film still running, and the phone in the same network? The take waits here.", true);
    film.again.hidden = false;
    return;
  }
  if (response.status === 201) {
    waiting = null;
    if (blob === shownFile) leave(); // under a second label, it would be in doubt
    const state = JSON.parse(text);
    showLabels(state);
    const count = state.labels[label];
    tellFilmed(`${nameOf(label)} has ${count} ${count === 1 ? "take" : "takes"} now. Film the next one ${NEXT[numFilmed++ % NEXT.length]}; then, on the computer: dvc repro`);
  } else {
    tellFilmed(`Not kept: ${text.replace("\n", ". To mend: ")}`, true);
    if (response.status === 507) film.again.hidden = false;
    else waiting = null;
  }
}

film.new.onsubmit = event => {
  event.preventDefault();
  const label = film.name.value.trim();
  if (label) alone(() => takeFor(label, film.new.querySelector("button")));
};
film.again.onclick = () => alone(send);
element.stage.addEventListener("shown", () => {
  film.what.textContent = shownFile ? `Keep ${shownFile.name} as a take of …` : `Film ${SECONDS} seconds of …`;
  film.new.querySelector("button").textContent = shownFile ? "Keep it" : "Film it";
});
addEventListener("beforeunload", event => waiting && event.preventDefault());
film.film.hidden = false;
showLabels(await (await fetch("takes")).json());
