#include "calque/core/error.h"
#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"
#include "fuzz/fuzz_input.h"

namespace {

constexpr const char* kTexts[] = {"", " Hello, the world! 123\n\n don't",
                                  "\xE6\x9D\xB1\xE4\xBA\xAC <s></s> \xF0\x9F\x98\x80\xFF"};

}  // namespace

// Any bytes either make a tokenizer whose ids are all below its size, or Error(kInput). The same
// holds for the vocabulary that a GGUF file would get.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const calque::testing::FuzzFolder folder;
  folder.write("tokenizer.json", calque::testing::text_of(data, size));
  std::int64_t ids = 0;
  try {
    const auto tokenizer = calque::text::load_tokenizer(folder.path());
    ids = tokenizer->vocab_size();
    for (const char* text : kTexts)
      for (const bool special : {false, true})
        for (const std::int32_t id : tokenizer->encode(text, special))
          if (id < 0 || id >= ids) abort();
    for (std::int32_t id = -1; id <= std::min<std::int64_t>(ids, 1000); ++id) tokenizer->token(id);
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  try {
    const calque::text::Vocabulary vocabulary =
        calque::text::load_vocabulary(folder.path(), ids > 0 ? ids : 1000, "default");
    if (vocabulary.types.size() != vocabulary.tokens.size()) abort();
    for (const auto& [name, id] : vocabulary.special_ids)
      if (id < 0 || static_cast<std::size_t>(id) >= vocabulary.tokens.size()) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
