#include "calque/core/error.h"
#include "calque/io/gguf.h"
#include "fuzz/fuzz_input.h"

// Any bytes either make a file whose every tensor byte can be read, or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const calque::testing::FuzzInput input(data, size);
  try {
    const calque::io::GgufFile file(input.path());
    unsigned sum = 0;
    for (const calque::io::GgufTensor& tensor : file.tensors()) {
      const calque::ggml::TypeInfo& info = calque::ggml::info_of(tensor.type);
      const std::uint64_t blocks =
          tensor.element_count() / static_cast<unsigned>(info.block_columns);
      if (blocks * static_cast<unsigned>(info.block_bytes) != tensor.bytes.size()) abort();
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
    }
    [[maybe_unused]] volatile unsigned used = sum;
    file.integer("general.alignment");
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
