// Runs before everything else of the program, and is compiled for the oldest x86-64: a processor
// that lacks what the rest is compiled for gets a sentence, and not an illegal instruction.
#ifdef __x86_64__

#include <unistd.h>

#include <cstring>

namespace {

void print(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(1);
}

// The first of them is introduced by the sentence, the others follow.
int missing = 0;
void expect(int supported, const char* name) {
  if (supported != 0) return;
  print(missing == 0 ? "error[E130]: calque needs a processor with x86-64-v3, and this one lacks "
                     : ", ");
  print(name);
  ++missing;
}

// 101 is the first priority that programs may use: constructors without one come later.
__attribute__((constructor(101))) void check_processor() {
  __builtin_cpu_init();
  expect(__builtin_cpu_supports("avx2"), "AVX2");
  expect(__builtin_cpu_supports("fma"), "FMA");
  expect(__builtin_cpu_supports("bmi"), "BMI1");
  expect(__builtin_cpu_supports("bmi2"), "BMI2");
#ifndef __clang__  // clang 14 does not know these names
  expect(__builtin_cpu_supports("f16c"), "F16C");
  expect(__builtin_cpu_supports("lzcnt"), "LZCNT");
  expect(__builtin_cpu_supports("movbe"), "MOVBE");
#endif
  if (missing == 0) return;
  print(" (processors since 2013 have them: Intel Haswell, AMD Excavator)\n");
  _exit(2);
}

}  // namespace

#endif
