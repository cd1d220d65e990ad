#include "calque/text/tokenizer.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "text/gguf_tokenizer.h"
#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/vocabulary_parts.h"

namespace calque::text {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model) {
  if (is_gguf(model)) return load_gguf_tokenizer(model);
  const bool pieces = has_pieces(model);
  if (std::filesystem::exists(model / "tokenizer.json"))
    return load_json_tokenizer(model / "tokenizer.json");
  if (pieces) return load_sentencepiece_tokenizer(model);
  throw Error(ErrorKind::kInput, "E213",
              fmt::format("{}: has neither tokenizer.json nor tokenizer.model. Copy the tokenizer "
                          "files of the model there, or give token ids in place of text.",
                          model.string()));
}

bool has_tokenizer(const std::filesystem::path& model) {
  if (is_gguf(model)) return gguf_has_tokenizer(model);
  io::refuse_placeholder(model / "tokenizer.json");
  io::refuse_placeholder(model / "tokenizer.model");
  return std::filesystem::exists(model / "tokenizer.json") ||
         std::filesystem::exists(model / "tokenizer.model");
}

}  // namespace calque::text
