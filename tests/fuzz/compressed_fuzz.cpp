#include "calque/core/error.h"
#include "calque/io/text_lines.h"
#include "fuzz/fuzz_input.h"

// Any bytes, read as .gz or .zst (as the first byte says), either are lines without line breaks, or
// Error(kInput). Stops after 16 MiB, which a few bytes can hold.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const calque::testing::FuzzFolder folder;
  const std::string name = *data % 2 == 0 ? "text.gz" : "text.zst";
  try {
    std::size_t left = std::size_t{16} << 20;
    calque::io::for_each_line(folder.write(name, calque::testing::text_of(data + 1, size - 1)),
                              [&](std::string_view line) {
                                if (line.find('\n') != std::string_view::npos) abort();
                                left -= std::min(left, line.size() + 1);
                                return left > 0;
                              });
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
