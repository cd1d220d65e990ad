#include "calque/text/vocabulary.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "text/gguf_tokenizer.h"
#include "text/token_kinds.h"
#include "text/vocabulary_readers.h"

namespace calque::text {

Vocabulary load_vocabulary(const std::filesystem::path& model, std::int64_t vocab_size,
                           const std::string& pre_override) {
  if (is_gguf(model)) {
    Vocabulary vocabulary = gguf_vocabulary(model);
    pad_vocabulary(vocabulary, vocab_size, !vocabulary.scores.empty());
    if (!pre_override.empty()) vocabulary.pre = pre_override;
    return vocabulary;
  }
  const auto pieces = model / "tokenizer.model";
  const auto json = model / "tokenizer.json";
  Vocabulary vocabulary;
  if (std::filesystem::exists(pieces)) {
    vocabulary = sentencepiece_vocabulary(model, vocab_size);
  } else if (std::filesystem::exists(json)) {
    vocabulary = json_vocabulary(model, vocab_size, pre_override.empty());
  } else {
    throw Error(ErrorKind::kInput, "",
                fmt::format("{}: has neither tokenizer.model nor tokenizer.json, and GGUF files "
                            "carry the tokenizer. Copy the tokenizer files of the model there.",
                            model.string()));
  }
  if (!pre_override.empty()) vocabulary.pre = pre_override;
  return vocabulary;
}

}  // namespace calque::text
