#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace calque::text {

// The part of a tokenizer that GGUF stores: data, no behaviour. Follows the conventions of
// llama.cpp's converter (src/formats/README.md, "Tokenizer").
struct Vocabulary {
  // tokenizer.ggml.model "llama" (or "gemma4") and "gpt2".
  enum class Kind { kSentencePiece, kByteLevelBpe };
  enum class TokenType : std::int32_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };

  Kind kind = Kind::kSentencePiece;
  std::string pre;                  // tokenizer.ggml.pre: "default", "llama-bpe", "qwen2", ...
  std::vector<std::string> tokens;  // by id
  std::vector<TokenType> types;     // as many as tokens
  std::vector<float> scores;        // kSentencePiece: as many as tokens; else empty
  // "left right" in the order of their ranks; kSentencePiece: empty if the source has only scores.
  std::vector<std::string> merges;
  std::map<std::string, std::int32_t> special_ids;  // "bos", "eos", "unknown", "padding", ...
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<bool> add_space_prefix;
  std::string chat_template;                           // the default one; empty: none
  std::map<std::string, std::string> named_templates;  // the others; names of letters, digits, _
  // Where the files say two things, which one is stored; unused tokens that fill the embedding.
  std::vector<std::string> remarks;
};

// Reads tokenizer.model of a model folder, or tokenizer.json (BPE with byte fallback:
// kSentencePiece; byte-level: kByteLevelBpe), with the files next to it: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json, generation_config.json, config.json and chat
// templates. src/text/README.md says which one is read where two disagree. `pre` follows from the
// pre-tokenizer's content; an unknown pre-tokenizer is Error(kInput) unless `pre_override` is
// given. Tokens are padded with
// "[PADi]" up to `vocab_size` (the rows of the embedding); more tokens than rows is Error(kInput).
// For a GGUF file, returns its own vocabulary with any `pre`.
Vocabulary load_vocabulary(const std::filesystem::path& model, std::int64_t vocab_size,
                           const std::string& pre_override = "");

// Files of a model folder, by name.
using TokenizerFiles = std::vector<std::pair<std::string, std::string>>;

// The files that say what `vocabulary`, a GGUF file's, says, for transformers and its like:
// tokenizer.json (byte-level BPE) or tokenizer.model, tokenizer_config.json with special tokens and
// chat templates, generation_config.json with the ends of a text. `name` is the file's, for
// messages. Error(kInput, "E211") for a tokenizer that cannot be written.
TokenizerFiles tokenizer_files(const Vocabulary& vocabulary, const std::string& name,
                               std::int64_t max_positions);

}  // namespace calque::text
