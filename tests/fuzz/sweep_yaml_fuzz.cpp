#include "calque/config/sweep_file.h"
#include "calque/core/error.h"
#include "fuzz/fuzz_input.h"

// Any bytes either make a sweep, which written out with all its defaults is the same sweep again,
// or Error(kConfig).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const calque::testing::FuzzFolder folder;
  std::string resolved;
  try {
    resolved = calque::config::resolved_yaml(calque::config::load_sweep(
        folder.write("sweep.yaml", calque::testing::text_of(data, size))));
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kConfig) abort();
    return 0;
  }
  const calque::config::SweepFile again =
      calque::config::load_sweep(folder.write("resolved.yaml", resolved));
  if (calque::config::resolved_yaml(again) != resolved) abort();
  return 0;
}
