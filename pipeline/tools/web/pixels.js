// The picture's way into the model, number for number as pipeline/images/model_input.py has it, which is what phones do.

const ONE = 32; // positions are rounded to 1/32 pixel

/** Round half to even, as NumPy and Python do. */
function rint(value) {
  const below = Math.floor(value), rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** For each target pixel of an axis both source neighbours, and the second one's weight in 1/32. */
function axis(sourcePixels, targetPixels) {
  const first = new Int32Array(targetPixels), second = new Int32Array(targetPixels), weight = new Int32Array(targetPixels);
  for (let i = 0; i < targetPixels; i++) {
    const position = rint(i * (sourcePixels / targetPixels) * ONE);
    first[i] = Math.min(Math.floor(position / ONE), sourcePixels - 1);
    second[i] = Math.min(first[i] + 1, sourcePixels - 1);
    weight[i] = position % ONE;
  }
  return {first, second, weight};
}

/**
 * Scale a part of a picture into a part of the model's input.
 *
 * @param {Uint8ClampedArray} rgba - The whole picture, `stride` pixels wide, 4 bytes each.
 * @param {{left: number, top: number, width: number, height: number}} from - In the picture.
 * @param {Uint8Array} input - RGB, `side` pixels wide.
 * @param {{left: number, top: number, width: number, height: number}} to - In the input.
 */
function scaleLikePhone(rgba, stride, from, input, side, to) {
  const rows = axis(from.height, to.height), columns = axis(from.width, to.width);
  for (let y = 0; y < to.height; y++) {
    const lower = rows.weight[y], upper = ONE - lower;
    const above = (from.top + rows.first[y]) * stride + from.left, below = (from.top + rows.second[y]) * stride + from.left;
    let place = ((to.top + y) * side + to.left) * 3;
    for (let x = 0; x < to.width; x++) {
      const right = columns.weight[x], left = ONE - right;
      const a = (above + columns.first[x]) * 4, b = (above + columns.second[x]) * 4;
      const c = (below + columns.first[x]) * 4, d = (below + columns.second[x]) * 4;
      for (let channel = 0; channel < 3; channel++) {
        const west = rgba[a + channel] * upper + rgba[c + channel] * lower;
        const east = rgba[b + channel] * upper + rgba[d + channel] * lower;
        input[place++] = (west * left + east * right + 512) >> 10;
      }
    }
  }
}

/** Make the model's input, RGB [side, side, 3], of a picture (an ImageData), by `stretch`, `crop` or `pad`. */
function toModelInput(image, side, resize) {
  const {width, height, data} = image, input = new Uint8Array(side * side * 3);
  let from = {left: 0, top: 0, width, height}, to = {left: 0, top: 0, width: side, height: side};
  if (resize === "crop") {
    const shorter = Math.min(width, height);
    from = {left: Math.floor((width - shorter) / 2), top: Math.floor((height - shorter) / 2), width: shorter, height: shorter};
  } else if (resize === "pad") {
    const longer = Math.max(width, height);
    const inner = {width: Math.max(1, rint(side * width / longer)), height: Math.max(1, rint(side * height / longer))};
    to = {left: Math.floor((side - inner.width) / 2), top: Math.floor((side - inner.height) / 2), ...inner};
  }
  scaleLikePhone(data, width, from, input, side, to);
  return input;
}
