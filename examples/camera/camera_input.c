#include "camera_input.h"

#include <math.h>

enum { ONE = 32 }; // positions are rounded to 1/32 pixel

static int smaller(int a, int b) { return a < b ? a : b; }

static int clamp(int value) { return value < 0 ? 0 : smaller(value, 255); }

// Read a pixel of the upright picture.
static void rgb(const camera_frame *frame, int upright_x, int upright_y, int into[3]) {
  int x = upright_x, row = upright_y;
  if (frame->rotation == 90) {
    x = upright_y;
    row = frame->height - 1 - upright_x;
  } else if (frame->rotation == 180) {
    x = frame->width - 1 - upright_x;
    row = frame->height - 1 - upright_y;
  } else if (frame->rotation == 270) {
    x = frame->width - 1 - upright_y;
    row = upright_x;
  }
  const int luma = frame->y[row * frame->y_row_stride + x] * 65536;
  const int colour = row / 2 * frame->colour_row_stride + x / 2 * frame->colour_pixel_stride;
  const int cb = frame->u[colour] - 128, cr = frame->v[colour] - 128;
  into[0] = clamp((luma + 91881 * cr + 32768) >> 16);
  into[1] = clamp((luma - 22554 * cb - 46802 * cr + 32768) >> 16);
  into[2] = clamp((luma + 116130 * cb + 32768) >> 16);
}

void camera_input(const camera_frame *frame, bool crop, int side, uint8_t *input) {
  const bool is_turned = frame->rotation % 180 != 0;
  const int upright_width = is_turned ? frame->height : frame->width;
  const int upright_height = is_turned ? frame->width : frame->height;
  const int shorter = smaller(upright_width, upright_height);
  const int from_width = crop ? shorter : upright_width, from_height = crop ? shorter : upright_height;
  const int left = (upright_width - from_width) / 2, top = (upright_height - from_height) / 2;
  for (int row = 0; row < side; row++) {
    const int vertical = (int)rint(row * ((double)from_height / side) * ONE);
    const int above = smaller(vertical / ONE, from_height - 1), below = smaller(above + 1, from_height - 1);
    const int lower = vertical % ONE;
    for (int column = 0; column < side; column++) {
      const int horizontal = (int)rint(column * ((double)from_width / side) * ONE);
      const int west = smaller(horizontal / ONE, from_width - 1), east = smaller(west + 1, from_width - 1);
      const int right = horizontal % ONE;
      int corners[4][3];
      rgb(frame, left + west, top + above, corners[0]);
      rgb(frame, left + east, top + above, corners[1]);
      rgb(frame, left + west, top + below, corners[2]);
      rgb(frame, left + east, top + below, corners[3]);
      for (int channel = 0; channel < 3; channel++) {
        const int westward = corners[0][channel] * (ONE - lower) + corners[2][channel] * lower;
        const int eastward = corners[1][channel] * (ONE - lower) + corners[3][channel] * lower;
        *input++ = (uint8_t)((westward * (ONE - right) + eastward * right + 512) >> 10);
      }
    }
  }
}
