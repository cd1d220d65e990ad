#include "calque/core/error.h"
#include "fuzz/fuzz_input.h"
#include "text/documents.h"
#include "text/unicode.h"

namespace {

void expect_documents(const calque::text::TextSource& source) {
  calque::text::for_each_document(source, {}, [](const calque::text::Document& document) {
    if (document.text.empty() || !calque::text::is_valid_utf8(document.text)) abort();
  });
}

}  // namespace

// Any bytes, read as .jsonl or as .txt, either are documents of valid UTF-8, none of them empty, or
// Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const calque::testing::FuzzFolder folder;
  const std::string_view bytes = calque::testing::text_of(data, size);
  for (const char* name : {"corpus.jsonl", "corpus.json", "corpus.txt"}) {
    calque::text::TextSource source{.path = folder.write(name, bytes)};
    if (source.path.extension() == ".txt") source.split_on = "\n\n";
    try {
      expect_documents(source);
    } catch (const calque::Error& error) {
      if (error.kind() != calque::ErrorKind::kInput) abort();
    }
  }
  return 0;
}
