// Makes the model's input of a camera frame, byte for byte as the pipeline does it. For iOS (through a bridging header),
// Raspberry Pi, and wherever C runs.

#ifndef CAMERA_INPUT_H
#define CAMERA_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A frame as the camera gives it: 4:2:0, full-range BT.601, such as 420YpCbCr8BiPlanarFullRange, NV21 or I420.
typedef struct {
  const uint8_t *y, *u, *v;                   // of NV12, v is u + 1; of NV21, u is v + 1
  int y_row_stride;                           // bytes between rows
  int colour_row_stride, colour_pixel_stride; // of u and v; the second is 2 where they alternate, else 1
  int width, height;                          // pixels
  int rotation;                               // degrees clockwise after which the frame is upright: 0, 90, 180 or 270
} camera_frame;

// Write RGB, side * side * 3 bytes, row by row. `crop` takes the largest centred square (`resize: crop`), or else the
// whole frame is stretched (`resize: stretch`).
void camera_input(const camera_frame *frame, bool crop, int side, uint8_t *input);

#ifdef __cplusplus
}
#endif

#endif
