#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/journal.h"
#include "calque/io/state_file.h"
#include "calque/resume/progress.h"
#include "fuzz/fuzz_input.h"

namespace {

// The lines of `text` as records with the lengths and checksums that the journal gives them.
std::vector<std::string> records_of(std::string_view text) {
  std::vector<std::string> records;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    records.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return records;
}

void read_journal(const std::filesystem::path& path) {
  const calque::io::Journal journal(path);
  if (journal.records().empty()) abort();
  calque::resume::read_progress(journal.records());
}

void read_state(const std::filesystem::path& path) {
  calque::io::StateFileReader reader(path);
  std::array<std::byte, 7> bytes{};
  while (true) reader.read(bytes);
}

}  // namespace

// A run's saved state: any bytes either are what calque wrote, or Error(kInput). The first byte
// says if the rest is a journal, the records of one, or a state file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const calque::testing::FuzzInput input(data + 1, size - 1);
  try {
    if (*data % 3 == 0) read_journal(input.path());
    if (*data % 3 == 1)
      calque::resume::read_progress(records_of(calque::testing::text_of(data + 1, size - 1)));
    if (*data % 3 == 2) read_state(input.path());
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
