#include "calque/core/error.h"
#include "calque/text/vocabulary.h"
#include "fuzz/fuzz_input.h"
#include "text/sentencepiece_model.h"

// Any bytes either make a model of SentencePiece, no larger than the file, whose pieces are found
// by their texts, or Error(kInput). The same holds for the vocabulary that a GGUF file would get.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const calque::testing::FuzzFolder folder;
  const std::string_view bytes = calque::testing::text_of(data, size);
  try {
    const calque::text::SentencePieceModel model =
        calque::text::parse_sentencepiece_model(std::string(bytes));
    if (model.pieces.size() > size) abort();
    for (const auto& piece : model.pieces)
      if (model.find(piece.text) < 0) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  folder.write("tokenizer.model", bytes);
  try {
    const calque::text::Vocabulary vocabulary =
        calque::text::load_vocabulary(folder.path(), 1000, "default");
    if (vocabulary.tokens.size() != 1000 || vocabulary.types.size() != 1000) abort();
    for (const auto& [name, id] : vocabulary.special_ids)
      if (id < 0 || id >= 1000) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
