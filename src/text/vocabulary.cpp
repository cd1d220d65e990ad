#include "calque/text/vocabulary.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "text/vocabulary_readers.h"

namespace calque::text {

Vocabulary load_vocabulary(const std::filesystem::path& model_folder, std::int64_t vocab_size,
                           const std::string& pre_override) {
  const auto model = model_folder / "tokenizer.model";
  const auto json = model_folder / "tokenizer.json";
  Vocabulary vocabulary;
  if (std::filesystem::exists(model)) {
    vocabulary = sentencepiece_vocabulary(model_folder, vocab_size);
  } else if (std::filesystem::exists(json)) {
    vocabulary = json_vocabulary(model_folder, vocab_size, pre_override.empty());
  } else {
    throw Error(ErrorKind::kInput, "",
                fmt::format("{}: has neither tokenizer.model nor tokenizer.json, and GGUF files "
                            "carry the tokenizer. Copy the tokenizer files of the model there.",
                            model_folder.string()));
  }
  if (!pre_override.empty()) vocabulary.pre = pre_override;
  return vocabulary;
}

}  // namespace calque::text
