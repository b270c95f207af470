// Starts the example of `viewfinder mcu` on the Cortex-M55 of the board MPS3 AN547, as QEMU emulates it. What is printed
// goes to the terminal by semihosting. docs/pages/mcu.md has the commands.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tensorflow/lite/micro/cortex_m_generic/debug_log_callback.h"

extern "C" {

extern uint32_t __stack;  // of board.ld
void _start();            // newlib's: clears .bss, runs constructors and main, ends QEMU with main's status

void Reset() {
  // CPACR: floating point and MVE are off after a reset.
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88) |= 0xFu << 20;
  asm volatile("dsb\n isb");
  _start();
}

void Fault() {
  std::puts("the processor reports a fault");
  std::_Exit(1);
}

__attribute__((section(".vectors"), used)) void (*const vectors[16])() = {
    reinterpret_cast<void (*)()>(&__stack), Reset, Fault, Fault, Fault, Fault, Fault, Fault};
}

namespace {

// TFLM prints through what is registered here; without it, nothing is seen.
struct Log {
  Log() {
    RegisterDebugLogCallback([](const char* text) { std::fputs(text, stdout); });
  }
} log;

}  // namespace
