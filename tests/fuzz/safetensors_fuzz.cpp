#include "calque/core/error.h"
#include "calque/io/safetensors.h"
#include "fuzz/fuzz_input.h"

// Any bytes either make a file whose every byte can be read, or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const calque::testing::FuzzInput input(data, size);
  try {
    const calque::io::SafetensorsFile file(input.path());
    unsigned sum = 0;
    for (const calque::io::TensorRef& tensor : file.tensors()) {
      const auto bytes = static_cast<std::size_t>(tensor.element_count()) * size_of(tensor.dtype);
      if (bytes != tensor.bytes.size() || file.find(tensor.name) != &tensor) abort();
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
    }
    [[maybe_unused]] volatile unsigned used = sum;
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
