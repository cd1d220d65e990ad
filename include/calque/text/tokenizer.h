#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace calque::text {

using TokenIds = std::vector<std::int32_t>;

// Converts text to token ids exactly as the model's own tokenizer does. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text` without tokens that a post-processor would add. With `parse_special`, text that
  // spells a special token ("<|im_start|>") becomes that token, as in Hugging Face; otherwise it is
  // ordinary text. Invalid UTF-8 is replaced by U+FFFD.
  virtual TokenIds encode(std::string_view text, bool parse_special = true) const = 0;

  // The ids that the post-processor puts before and after one sequence (usually BOS).
  virtual TokenIds prefix() const = 0;
  virtual TokenIds suffix() const = 0;

  virtual std::int64_t vocab_size() const = 0;  // highest id + 1
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  virtual std::string token(std::int32_t id) const = 0;  // as in the vocabulary; "" if unknown
  // The text of tokens that follow others, so that a space at its beginning stays. Special tokens
  // are left out. Bytes that are not UTF-8 (a character whose rest is missing) become U+FFFD.
  virtual std::string decode(const TokenIds& ids) const = 0;
  // Source and kind, for reports: "tokenizer.json: byte-level BPE, 49152 tokens".
  virtual std::string description() const = 0;
};

// Loads the tokenizer of a model folder (tokenizer.json if present, else SentencePiece's
// tokenizer.model) or of a GGUF file (byte-level BPE with a known pre-tokenizer, or SentencePiece's
// BPE). BOS/EOS conventions come from the post-processor, or for tokenizer.model from
// tokenizer_config.json (add_bos_token, add_eos_token; default true / false). A component that is
// not implemented is Error(kInput) naming it and its place in the file ("tokenizer.json:
// pre_tokenizer.pretokenizers[0].pattern ..."); nothing is approximated.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model);

// The tokens that end what a model writes: eos_token_id of config.json and generation_config.json
// (numbers or lists) and the tokenizer's eos token; of a GGUF file the ids of eos, eot and eom.
// Ascending.
TokenIds end_tokens(const std::filesystem::path& model, const Tokenizer& tokenizer);

// True if the folder has one of these files, or the GGUF file a tokenizer of any kind.
bool has_tokenizer(const std::filesystem::path& model);

}  // namespace calque::text
