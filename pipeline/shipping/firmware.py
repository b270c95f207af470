"""The files of a firmware: a model as a C array with what there is to know of it, and an example that runs it.

The names are those of TensorFlow Lite for Microcontrollers' own examples (`g_model_data`, `arena`), the style is
Google's for C++, which these follow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.micro import OUTPUT_SCALE, OUTPUT_ZERO_POINT, PIXEL_OFFSET

_BYTES_PER_LINE = 16
_LARGEST_OUTPUT = 127
_SAFE = {chr(code) for code in range(32, 127)} - set('"\\?')

# What a resolver of TFLM calls the operators that networks for pictures consist of: methods of MicroMutableOpResolver
# (https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/micro_mutable_op_resolver.h).
METHODS = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPLIT": "AddSplit",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
}

_MODEL_H = Template("""\
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

_MODEL_CC = Template("""\
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

_GOLDEN_CC = Template("""\
// Made by `viewfinder mcu`. Do not edit.
#include "golden.h"

const uint8_t g_golden_pixels[kInputBytes] = {
$pixels
};

const int8_t g_golden_output[kNumLabels] = {$output};
""")

_MAIN_CC = Template("""\
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


@dataclass(frozen=True)
class Firmware:
    """What the files are made of.

    Attributes:
        model: The .tflite file.
        backbone: Its name.
        resize: How a picture becomes square.
        input_pixels: Side of the input.
        labels: In the order of the output.
        threshold: Probability below which the picture shows none of them; None if the model always names one.
        arena_bytes: Of the arena.
        operators: Names of the kinds of operators, as in the schema of .tflite files.
        golden_pixels: uint8 [input_pixels, input_pixels, 3], RGB.
        golden_output: int8 [num_labels].
    """

    model: bytes
    backbone: str
    resize: str
    input_pixels: int
    labels: Sequence[str]
    threshold: float | None
    arena_bytes: int
    operators: Sequence[str]
    golden_pixels: npt.NDArray[np.uint8]
    golden_output: npt.NDArray[np.int8]

    def files(self) -> dict[str, str]:
        """Return the text of each file by its name.

        Raises:
            ModelError: If TFLM's resolver has no method for an operator.
        """
        return {
            "model.h": self._model_h(),
            "model.cc": _MODEL_CC.substitute(bytes="\n".join(_lines(self.model))),
            "golden.h": GOLDEN_H,
            "golden.cc": _GOLDEN_CC.substitute(
                pixels="\n".join(_lines(self.golden_pixels.tobytes())),
                output=", ".join(map(str, self.golden_output.tolist())),
            ),
            "main.cc": self._main_cc(),
            "Makefile": MAKEFILE,
        }

    def _model_h(self) -> str:
        told = "This model always names one."
        if self.threshold is not None:
            told = f"It stands for a probability of {self.threshold:.4f}, the threshold of the model for phones."
        return _MODEL_H.substitute(
            backbone=self.backbone,
            num_bytes=len(self.model),
            arena_bytes=self.arena_bytes,
            resize=self.resize,
            input_pixels=self.input_pixels,
            input_zero_point=-PIXEL_OFFSET,
            output_zero_point=OUTPUT_ZERO_POINT,
            num_labels=len(self.labels),
            labels=", ".join(map(c_string, self.labels)),
            threshold=threshold_as_output(self.threshold),
            threshold_told=told,
        )

    def _main_cc(self) -> str:
        missing = [name for name in self.operators if name not in METHODS]
        if missing:
            raise ModelError(
                found=f"operators that the example cannot register with TFLM: {', '.join(missing)}",
                expected=f"some of {', '.join(METHODS)}",
                remedy="choose another backbone; if TFLM has them, add their methods in pipeline/shipping/firmware.py",
            )
        adds = [f"  TF_LITE_ENSURE_STATUS(resolver.{METHODS[name]}());" for name in self.operators]
        return _MAIN_CC.substitute(num_operators=len(self.operators), adds="\n".join(adds))


def threshold_as_output(threshold: float | None) -> int:
    """Return the smallest int8 output that is at or above a probability; -128, which all are, for None.

    The largest output stands for 255/256 and for all above it, so no threshold is above that.
    """
    if threshold is None:
        return OUTPUT_ZERO_POINT
    return min(math.ceil(threshold / OUTPUT_SCALE) + OUTPUT_ZERO_POINT, _LARGEST_OUTPUT)


def c_string(text: str) -> str:
    """Return a string literal of C++: UTF-8 bytes as octal escapes where they are not plain."""
    letters = (letter if letter in _SAFE else "".join(f"\\{byte:03o}" for byte in letter.encode()) for letter in text)
    return f'"{"".join(letters)}"'


def _lines(content: bytes) -> Iterator[str]:
    for start in range(0, len(content), _BYTES_PER_LINE):
        yield "    " + "".join(f"0x{byte:02x}," for byte in content[start : start + _BYTES_PER_LINE])
