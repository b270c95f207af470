// Wires the page up and starts it.

element.camera.onclick = () => (element.video.srcObject ? leave() : startCamera());
element.turn.onclick = () => {
  facing = facing === "environment" ? "user" : "environment";
  startCamera();
};
element.open.onclick = () => element.file.click();
element.file.onchange = () => {
  if (element.file.files.length) openFile(element.file.files[0]);
  element.file.value = "";
};
element.pause.onclick = togglePause;
document.addEventListener("dragover", event => {
  event.preventDefault();
  element.stage.classList.add("over");
});
document.addEventListener("dragleave", () => element.stage.classList.remove("over"));
document.addEventListener("drop", event => {
  event.preventDefault();
  element.stage.classList.remove("over");
  if (event.dataTransfer.files.length && !element.open.disabled) openFile(event.dataTransfer.files[0]);
});

try {
  const litert = about.models.length ? await loadRuntime() : null;
  const kind = about.teach ? Learner : Classifier;
  for (const model of about.models) panels.push(new Panel(await kind.load(litert, model)));
  const factor = await prove();
  if (about.teach) await startTeaching(panels[0].classifier);
  element.camera.disabled = false;
  element.open.disabled = !panels.length && !about.film;
  document.body.dataset.state = "ready";
  document.body.dataset.factor = String(factor);
} catch (error) {
  element.proof.className = "bad";
  element.proof.textContent = `This browser cannot run the model (${error.message ?? error}). It takes one of 2023 or newer.`;
  document.body.dataset.state = "failed";
}
