#include "calque/text/tokenizer.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace calque::text {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_folder) {
  if (std::filesystem::exists(model_folder / "tokenizer.json"))
    return load_json_tokenizer(model_folder / "tokenizer.json");
  if (std::filesystem::exists(model_folder / "tokenizer.model"))
    return load_sentencepiece_tokenizer(model_folder);
  throw Error(ErrorKind::kInput, "",
              fmt::format("{}: has neither tokenizer.json nor tokenizer.model. Copy the tokenizer "
                          "files of the model there, or give token ids in place of text.",
                          model_folder.string()));
}

}  // namespace calque::text
