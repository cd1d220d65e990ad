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

// Text to token ids, exactly as the tokenizer that came with the model does it. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text` without tokens that a post-processor would add. `parse_special`: text that spells
  // a special token ("<|im_start|>") becomes that token (as Hugging Face does); otherwise it is
  // ordinary text. Invalid UTF-8 is replaced by U+FFFD.
  virtual TokenIds encode(std::string_view text, bool parse_special = true) const = 0;

  // The ids that the post-processor puts before and after one sequence (BOS, usually).
  virtual TokenIds prefix() const = 0;
  virtual TokenIds suffix() const = 0;

  virtual std::int64_t vocab_size() const = 0;  // highest id + 1
  virtual std::optional<std::int32_t> id_of(std::string_view token) const = 0;
  virtual std::string token(std::int32_t id) const = 0;  // as in the vocabulary; "" if unknown
  // Where it came from and what it is, for reports: "tokenizer.json: byte-level BPE, 49152 tokens".
  virtual std::string description() const = 0;
};

// From a model folder: tokenizer.json if present, else tokenizer.model (SentencePiece); or from a
// GGUF file, which keeps the tokenizer inside (byte-level BPE with a known pre-tokenizer, or
// SentencePiece's BPE). BOS/EOS
// conventions come from the post-processor, or for tokenizer.model from tokenizer_config.json
// (add_bos_token, add_eos_token; default true / false). A component that is not implemented is
// Error(kInput) naming it and its place in the file ("tokenizer.json:
// pre_tokenizer.pretokenizers[0].pattern ..."); nothing is approximated.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model);

// Whether the folder has one of these files, or the GGUF file a tokenizer of any kind.
bool has_tokenizer(const std::filesystem::path& model);

}  // namespace calque::text
