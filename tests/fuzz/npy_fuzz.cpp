#include "calque/core/error.h"
#include "calque/io/npy.h"
#include "fuzz/fuzz_input.h"

// Any bytes either make a matrix no larger than the file, or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const calque::testing::FuzzInput input(data, size);
  try {
    const auto matrix = calque::io::read_npy_integers(input.path());
    if (static_cast<std::size_t>(matrix.size()) > size) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
