// Teaching: what a person shows and asks.

const teach = Object.fromEntries(
  ["teach", "lesson", "thing", "look", "replay", "told", "kept", "save", "restore", "checkpoint", "forget"].map(id => [id, document.getElementById(id)]));
const LOOK_SECONDS = 5, MOST_EXAMPLES = 32; // of a label, of each look
let pupil = null;

function tellTaught(text, isBad = false) {
  teach.told.textContent = text;
  teach.told.classList.toggle("bad", isBad);
}

/** Show the labels that there are now, and what is known of each. */
async function showKnown() {
  pupil.learner.about.labels = pupil.all;
  element.models.replaceChildren();
  panels = [new Panel(pupil.learner)];
  const percent = value => (value === null ? "–" : `${Math.round(100 * value)}%`);
  const body = teach.kept.tBodies[0];
  body.replaceChildren();
  for (const [label, before, now] of await pupil.report()) {
    const row = body.insertRow();
    for (const text of [label, percent(before), percent(now)]) row.insertCell().textContent = text;
  }
  teach.save.disabled = teach.forget.disabled = !pupil.newLabels.length;
}

/** Let nothing else happen meanwhile, and tell what goes wrong. */
async function busily(work) {
  const buttons = [...teach.teach.querySelectorAll("button, input"), element.camera, element.turn, element.open];
  const before = buttons.map(one => one.disabled);
  buttons.forEach(one => (one.disabled = true));
  isFilming = true; // the camera's frames are not classified meanwhile
  try {
    await work();
  } catch (error) {
    tellTaught(error.message, true);
  } finally {
    isFilming = false;
    buttons.forEach((one, index) => (one.disabled = before[index]));
    await showKnown();
  }
}

/** Return what is seen now, as a picture; null if nothing is. */
function seenNow() {
  const {video, picture} = element;
  if (!video.hidden && video.readyState >= 2) return pixelsOf(video, video.videoWidth, video.videoHeight);
  return picture.hidden ? null : pixelsOf(picture, picture.width, picture.height);
}

/** Return the features of what is seen: of a video or a camera for some seconds, of a picture once. */
async function look() {
  const features = [], end = performance.now() + 1000 * LOOK_SECONDS;
  do {
    const next = performance.now() + 1000 * LOOK_SECONDS / MOST_EXAMPLES, image = seenNow();
    if (image) features.push((await pupil.learner.infer(image)).features);
    tellTaught(`Looking: ${Math.max(0, Math.ceil((end - performance.now()) / 1000))} s. Move around it.`);
    await new Promise(done => setTimeout(done, Math.max(0, next - performance.now())));
  } while (!element.video.hidden && performance.now() < end && features.length < MOST_EXAMPLES);
  return features;
}

async function giveLesson() {
  const label = teach.thing.value.trim();
  if (!label) return;
  if (element.video.hidden && element.picture.hidden) await startCamera();
  await busily(async () => {
    if (pupil.labels.includes(label)) throw new Error(`${label} shipped with the model: teach another label.`);
    const features = await look();
    if (!features.length) throw new Error("There is nothing to see: start the camera, or open a picture or a video.");
    const row = pupil.rowOf(label);
    if (row < 0) throw new Error(`There is room for ${about.teach.head.num_new_labels} new labels, and all are taught.`);
    pupil.examples.push(...features.map(feature => ({feature, row})));
    const begin = performance.now();
    const loss = await pupil.learn(teach.replay.checked, share => tellTaught(`Learning: ${Math.round(100 * share)}%`));
    const seconds = (performance.now() - begin) / 1000;
    tellTaught(`Learned ${label} from ${features.length} ${features.length === 1 ? "picture" : "pictures"} in ${seconds.toFixed(1)} s, loss ${loss.toFixed(2)}.`);
  });
}

async function saveCheckpoint() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await pupil.checkpoint());
  link.download = "learned.safetensors";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function restoreCheckpoint(file) {
  return busily(async () => {
    try {
      await pupil.resume(await file.arrayBuffer());
    } catch (error) {
      throw new Error(`${file.name} is refused: ${error.message}.`);
    }
    tellTaught(`Restored ${pupil.newLabels.join(", ")}.`);
  });
}

/** Train as golden.json says, and return by how much a loss or a bias differs at most; nothing stays of it. */
async function proveLearning() {
  const {golden} = about.teach;
  const rows = golden.replay.map((index, place) => ({feature: pupil.replay[index].feature, row: golden.rows[place]}));
  let worst = 0;
  for (const expected of golden.losses) worst = Math.max(worst, Math.abs(await pupil.learner.train(rows, golden) - expected));
  const {bias} = await pupil.learner.save();
  golden.bias.forEach((expected, index) => (worst = Math.max(worst, Math.abs(bias[index] - expected))));
  await pupil.learner.restore(pupil.start);
  return worst;
}

async function startTeaching(learner) {
  pupil = await Pupil.of(learner);
  const worst = await proveLearning();
  document.body.dataset.learning = String(worst);
  if (!(worst <= about.teach.golden.max_difference)) {
    element.proof.className = "bad";
    element.proof.textContent = `Does not learn as on the phone: a loss or a bias differs by ${worst.toPrecision(3)}`;
  }
  teach.lesson.onsubmit = event => {
    event.preventDefault();
    giveLesson();
  };
  teach.save.onclick = saveCheckpoint;
  teach.restore.onclick = () => teach.checkpoint.click();
  teach.checkpoint.onchange = () => {
    const [file] = teach.checkpoint.files;
    if (file) restoreCheckpoint(file);
    teach.checkpoint.value = "";
  };
  teach.forget.onclick = () => busily(async () => {
    await pupil.forget();
    tellTaught("All that was taught is forgotten.");
  });
  await showKnown();
  teach.teach.hidden = false;
}
