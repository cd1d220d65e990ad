#include <cmath>

#include "calque/core/error.h"
#include "calque/io/imatrix.h"
#include "fuzz/fuzz_input.h"

// Any bytes either make an importance matrix, no larger than the file, whose every mean is finite
// and not negative, or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const calque::testing::FuzzInput input(data, size);
  try {
    const calque::io::Imatrix imatrix = calque::io::read_imatrix(input.path());
    if (imatrix.entries.empty()) abort();
    for (const auto& [name, entry] : imatrix.entries) {
      if (name.empty() || entry.sums.size() > size) abort();
      for (calque::Index m = 0; m < entry.matrices; ++m)
        for (const float mean : entry.mean_square(m))
          if (!(mean >= 0)) abort();
    }
    calque::io::Imatrix twice = imatrix;
    twice.add(imatrix);
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
