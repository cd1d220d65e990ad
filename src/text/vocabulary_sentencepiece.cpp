#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/special_ids.h"
#include "text/token_kinds.h"
#include "text/vocabulary_readers.h"

namespace calque::text {
namespace {

using TokenType = Vocabulary::TokenType;

void append_pieces(const SentencePieceModel& model, Vocabulary& vocabulary) {
  for (const auto& piece : model.pieces) {
    vocabulary.tokens.push_back(piece.text);
    vocabulary.scores.push_back(piece.score);
    // The two enumerations share their numbers.
    vocabulary.types.push_back(static_cast<TokenType>(piece.type));
  }
}

bool is_ordinary(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined ||
         type == TokenType::kUnused;
}

void put_added_token(const AddedToken& token, Vocabulary& vocabulary) {
  const auto id = static_cast<std::size_t>(token.id);
  pad_vocabulary(
      vocabulary,
      std::max<std::int64_t>(token.id + 1, static_cast<std::int64_t>(vocabulary.tokens.size())),
      true);
  if (!is_ordinary(vocabulary.types[id])) return;
  const TokenType type = added_type(token.special, token.content);
  vocabulary.types[id] = type;
  vocabulary.scores[id] = kAddedScore;
  vocabulary.tokens[id] =
      type == TokenType::kUserDefined ? user_defined_text(token.content) : token.content;
}

void check_mergeable(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceModel::Algorithm::kBpe) return;
  throw Error(
      ErrorKind::kInput, "E211",
      "tokenizer.model is not a BPE model; GGUF readers would tokenize with it differently. "
      "Export gptq or awq, whose folders keep the tokenizer as it is.");
}

}  // namespace

Vocabulary sentencepiece_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size) {
  const SentencePieceModel model = read_sentencepiece_model(folder / "tokenizer.model");
  check_mergeable(model);
  const std::vector<AddedToken> added = read_side_tokens(folder, model);
  Vocabulary vocabulary;
  vocabulary.kind = Vocabulary::Kind::kSentencePiece;
  vocabulary.pre = "default";
  append_pieces(model, vocabulary);
  for (const AddedToken& token : added) put_added_token(token, vocabulary);
  pad_vocabulary(vocabulary, vocab_size, true);

  // Ids come from the files' numbers; a text is looked up among the pieces only where they are
  // silent about the two ids that every reader needs.
  read_special_ids(
      folder, [](const std::string&) { return std::nullopt; }, vocab_size, vocabulary);
  for (const auto& [name, text] : {std::pair{"bos", "<s>"}, std::pair{"eos", "</s>"}})
    if (const std::int32_t id = model.find(text); id >= 0) vocabulary.special_ids.emplace(name, id);
  if (!model.add_dummy_prefix) vocabulary.add_space_prefix = false;
  return vocabulary;
}

}  // namespace calque::text
