package viewfinder.camera;

import java.nio.ByteBuffer;

/**
 * Makes the model's input of a camera frame, byte for byte as the pipeline does it: YUV to RGB, upright, and square as
 * phones make it. For Android's YUV_420_888 (a CameraX ImageProxy or an Image) and any other 4:2:0 layout.
 */
public final class CameraInput {
  private static final int ONE = 32; // positions are rounded to 1/32 pixel

  private final ByteBuffer y;
  private final ByteBuffer u;
  private final ByteBuffer v;
  private final int yRowStride;
  private final int colourRowStride;
  private final int colourPixelStride;
  private final int width;
  private final int height;
  private final int rotation;

  /**
   * @param width of the frame as the camera gives it, in pixels; height likewise
   * @param rotation degrees clockwise after which the frame is upright: 0, 90, 180 or 270 (ImageInfo.getRotationDegrees)
   */
  public CameraInput(
      ByteBuffer y, int yRowStride, ByteBuffer u, ByteBuffer v, int colourRowStride, int colourPixelStride,
      int width, int height, int rotation) {
    this.y = y;
    this.u = u;
    this.v = v;
    this.yRowStride = yRowStride;
    this.colourRowStride = colourRowStride;
    this.colourPixelStride = colourPixelStride;
    this.width = width;
    this.height = height;
    this.rotation = rotation;
  }

  /**
   * Writes RGB, side * side * 3 bytes, row by row, at the buffer's position.
   *
   * @param crop whether the largest centred square is taken (`resize: crop`), and not the whole frame (`stretch`)
   */
  public void fill(ByteBuffer input, int side, boolean crop) {
    boolean isTurned = rotation % 180 != 0;
    int uprightWidth = isTurned ? height : width;
    int uprightHeight = isTurned ? width : height;
    int shorter = Math.min(uprightWidth, uprightHeight);
    int fromWidth = crop ? shorter : uprightWidth;
    int fromHeight = crop ? shorter : uprightHeight;
    int left = (uprightWidth - fromWidth) / 2;
    int top = (uprightHeight - fromHeight) / 2;
    int[] northWest = new int[3];
    int[] northEast = new int[3];
    int[] southWest = new int[3];
    int[] southEast = new int[3];
    for (int row = 0; row < side; row++) {
      int vertical = (int) Math.rint(row * ((double) fromHeight / side) * ONE);
      int above = Math.min(vertical / ONE, fromHeight - 1);
      int below = Math.min(above + 1, fromHeight - 1);
      int lower = vertical % ONE;
      for (int column = 0; column < side; column++) {
        int horizontal = (int) Math.rint(column * ((double) fromWidth / side) * ONE);
        int west = Math.min(horizontal / ONE, fromWidth - 1);
        int east = Math.min(west + 1, fromWidth - 1);
        int right = horizontal % ONE;
        rgb(left + west, top + above, northWest);
        rgb(left + east, top + above, northEast);
        rgb(left + west, top + below, southWest);
        rgb(left + east, top + below, southEast);
        for (int channel = 0; channel < 3; channel++) {
          int westward = northWest[channel] * (ONE - lower) + southWest[channel] * lower;
          int eastward = northEast[channel] * (ONE - lower) + southEast[channel] * lower;
          input.put((byte) ((westward * (ONE - right) + eastward * right + 512) >> 10));
        }
      }
    }
  }

  /** Reads a pixel of the upright picture. */
  private void rgb(int uprightX, int uprightY, int[] into) {
    int x = uprightX;
    int row = uprightY;
    if (rotation == 90) {
      x = uprightY;
      row = height - 1 - uprightX;
    } else if (rotation == 180) {
      x = width - 1 - uprightX;
      row = height - 1 - uprightY;
    } else if (rotation == 270) {
      x = width - 1 - uprightY;
      row = uprightX;
    }
    int luma = (y.get(row * yRowStride + x) & 255) << 16;
    int colour = row / 2 * colourRowStride + x / 2 * colourPixelStride;
    int cb = (u.get(colour) & 255) - 128;
    int cr = (v.get(colour) & 255) - 128;
    into[0] = clamp((luma + 91881 * cr + 32768) >> 16);
    into[1] = clamp((luma - 22554 * cb - 46802 * cr + 32768) >> 16);
    into[2] = clamp((luma + 116130 * cb + 32768) >> 16);
  }

  private static int clamp(int value) {
    return Math.max(0, Math.min(255, value));
  }
}
