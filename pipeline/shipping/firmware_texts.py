"""What the files of a firmware say, with places for what changes from model to model.

The names are those of TensorFlow Lite for Microcontrollers' own examples (`g_model_data`, `arena`), the style is
Google's for C++, which these follow.
"""

from string import Template

MODEL_H = Template("""\
// Made by `viewfinder mcu`, of the backbone $backbone. Do not edit.
#ifndef VIEWFINDER_MODEL_H_
#define VIEWFINDER_MODEL_H_

#include <cstdint>

// A .tflite file, aligned to 16 bytes.
extern const unsigned char g_model_data[];
constexpr unsigned int g_model_data_size = $num_bytes;

// What TFLM with its reference kernels needs for it on a 64-bit machine, which is more than 32 bits need. Kernels of
// chip vendors ask for more: AllocateTensors says how much is missing, and arena_used_bytes what is used.
constexpr int kArenaBytes = $arena_bytes;

// The input: int8 [1, kInputPixels, kInputPixels, 3], red, green, blue, each (0 to 255) - 128.
// The picture comes to that size by `resize: $resize`.
constexpr int kInputPixels = $input_pixels;
constexpr int kInputBytes = kInputPixels * kInputPixels * 3;
constexpr float kInputScale = 1.0f;
constexpr int kInputZeroPoint = $input_zero_point;

// The output: int8 [1, kNumLabels]. A probability is (output - kOutputZeroPoint) * kOutputScale.
constexpr float kOutputScale = 1.0f / 256;
constexpr int kOutputZeroPoint = $output_zero_point;
constexpr int kNumLabels = $num_labels;
constexpr const char* kLabels[kNumLabels] = {$labels};

// If the largest output is below kThreshold, the picture shows none of the labels.
// $threshold_told
constexpr int kThreshold = $threshold;

#endif  // VIEWFINDER_MODEL_H_
""")

MODEL_CC = Template("""\
// Made by `viewfinder mcu`: the bytes of model.tflite. Do not edit.
#include "model.h"

alignas(16) const unsigned char g_model_data[] = {
$bytes
};

static_assert(sizeof(g_model_data) == g_model_data_size, "model.h is of another model");
""")

GOLDEN_H = """\
// Made by `viewfinder mcu`: a picture with a known answer. A firmware without a self-test leaves it out.
#ifndef VIEWFINDER_GOLDEN_H_
#define VIEWFINDER_GOLDEN_H_

#include <cstdint>

#include "model.h"

// Red, green, blue, 0 to 255, at the model's size.
extern const uint8_t g_golden_pixels[kInputBytes];

// The model's output for it, bit for bit, by TFLM's reference kernels.
extern const int8_t g_golden_output[kNumLabels];

#endif  // VIEWFINDER_GOLDEN_H_
"""

GOLDEN_CC = Template("""\
// Made by `viewfinder mcu`. Do not edit.
#include "golden.h"

const uint8_t g_golden_pixels[kInputBytes] = {
$pixels
};

const int8_t g_golden_output[kNumLabels] = {$output};
""")

MAIN_CC = Template("""\
// Runs the golden picture, compares the answer, and prints it. Made by `viewfinder mcu`; a place to start from.
#include <cstdint>

#include "golden.h"
#include "model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

alignas(16) uint8_t arena[kArenaBytes];

// These operators alone are linked.
using OpResolver = tflite::MicroMutableOpResolver<$num_operators>;

TfLiteStatus AddOperators(OpResolver& resolver) {
$adds
  return kTfLiteOk;
}

// A camera's bytes go the same way.
void SetPicture(const uint8_t* rgb, TfLiteTensor* input) {
  for (int i = 0; i < kInputBytes; ++i) {
    input->data.int8[i] = static_cast<int8_t>(rgb[i] + kInputZeroPoint);
  }
}

void Print(const int8_t* output) {
  int best = 0;
  for (int i = 0; i < kNumLabels; ++i) {
    if (output[i] > output[best]) best = i;
    MicroPrintf("%d%% %s", (output[i] - kOutputZeroPoint) * 100 / 256, kLabels[i]);
  }
  MicroPrintf("answer: %s", output[best] < kThreshold ? "none of them" : kLabels[best]);
}

}  // namespace

int main() {
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel(g_model_data);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    MicroPrintf("the model's schema is %d, TFLM's is %d", model->version(), TFLITE_SCHEMA_VERSION);
    return 1;
  }
  static OpResolver resolver;
  if (AddOperators(resolver) != kTfLiteOk) return 1;
  static tflite::MicroInterpreter interpreter(model, resolver, arena, kArenaBytes);
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;

  SetPicture(g_golden_pixels, interpreter.input(0));
  if (interpreter.Invoke() != kTfLiteOk) return 1;
  const int8_t* output = interpreter.output(0)->data.int8;
  Print(output);
  MicroPrintf("arena: %u of %d bytes used", static_cast<unsigned>(interpreter.arena_used_bytes()), kArenaBytes);

  for (int i = 0; i < kNumLabels; ++i) {
    if (output[i] != g_golden_output[i]) {
      MicroPrintf("%s: %d found, %d expected", kLabels[i], output[i], g_golden_output[i]);
      return 1;
    }
  }
  MicroPrintf("the golden picture's answer, bit for bit");
  return 0;
}
""")

MAKEFILE = """\
# make TFLM=/path/to/tflite-micro run
#
# Builds TFLM's library by its own Makefile (which downloads what it needs, once, and asks for Python with NumPy and
# Pillow), and the example with it. What is given here is given to TFLM's Makefile too, such as, for a chip,
#   make TFLM=... TARGET=cortex_m_generic TARGET_ARCH=cortex-m55 OPTIMIZED_KERNEL_DIR=cmsis_nn \\
#     COMPILER=arm-none-eabi-g++ COMPILER_FLAGS="-mcpu=cortex-m55 -mfloat-abi=hard" \\
#     LINKER_FLAGS="-T your_board.ld" MORE_SOURCES=your_startup.cc
# The last four are for the example alone; CXX, CXXFLAGS and LDFLAGS would replace TFLM's own.
COMPILER ?= g++
LINKER_FLAGS ?= -Wl,--gc-sections
ifndef TFLM
$(error Say where TFLM lies: make TFLM=/path/to/tflite-micro. \\
  To get it: git clone https://github.com/tensorflow/tflite-micro)
endif
TFLM_MAKEFILE := tensorflow/lite/micro/tools/make/Makefile
ifeq ($(wildcard $(TFLM)/$(TFLM_MAKEFILE)),)
$(error $(TFLM) is no checkout of tflite-micro: it has no $(TFLM_MAKEFILE))
endif

DOWNLOADS := $(TFLM)/tensorflow/lite/micro/tools/make/downloads
INCLUDES := -I. -I$(TFLM) -I$(DOWNLOADS)/flatbuffers/include -I$(DOWNLOADS)/gemmlowp -I$(DOWNLOADS)/ruy
# TF_LITE_STATIC_MEMORY changes structs of TFLM: it must stand here as it stands there.
FLAGS := -std=c++17 -Os -fno-rtti -fno-exceptions -ffunction-sections -fdata-sections -DTF_LITE_STATIC_MEMORY
SOURCES := main.cc model.cc golden.cc $(MORE_SOURCES)
TFLM_MAKE = $(MAKE) --no-print-directory -C $(TFLM) -f $(TFLM_MAKEFILE)

.PHONY: run clean

example: $(SOURCES) model.h golden.h
	+$(TFLM_MAKE) microlite
	+library=$$($(TFLM_MAKE) --silent list_gendir)lib/libtensorflow-microlite.a && \\
	$(COMPILER) $(FLAGS) $(COMPILER_FLAGS) $(INCLUDES) $(SOURCES) $(TFLM)/$$library -lm $(LINKER_FLAGS) -o $@

run: example
	./example

clean:
	rm -f example
"""
