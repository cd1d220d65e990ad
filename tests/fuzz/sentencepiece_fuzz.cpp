#include "calque/core/error.h"
#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"
#include "fuzz/fuzz_input.h"
#include "text/sentencepiece_model.h"

// Any bytes either make a model of SentencePiece, no larger than the file, whose pieces are found
// by their texts, or Error(kInput). The same holds for the vocabulary that a GGUF file would get,
// and for the tokenizer, which is SentencePiece's own library.
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
  try {
    const auto tokenizer = calque::text::load_tokenizer(folder.path());
    for (const char* text : {"", " The theatre, in \xC3\xA9t\xC3\xA9 <s> 12\n\xFF"})
      for (const std::int32_t id : tokenizer->encode(text))
        if (id < 0 || id >= tokenizer->vocab_size()) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput && error.code() != "E168") abort();
  }
  return 0;
}
