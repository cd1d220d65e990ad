#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "calque/text/tokenizer.h"
#include "text/json_node.h"
#include "text/string_map.h"

namespace calque::text {

// The largest token id that a file may use, because it determines table sizes.
constexpr std::int64_t kMaxTokenId = (1 << 22) - 1;

// Byte pair encoding of single words, as in the "model" of a tokenizer.json. Immutable.
class Bpe {
 public:
  // Refuses dropout, subword prefixes and suffixes, and other kinds of models, naming them.
  explicit Bpe(const JsonNode& model);

  // Cache of the words in one call of Tokenizer::encode: most texts repeat words.
  class Cache;

  // Appends the ids of `word` (valid UTF-8, not empty). Characters outside the vocabulary become
  // bytes ("<0x0A>") if the model says so, else the unknown token, else nothing.
  void encode(std::string_view word, Cache& cache, TokenIds& ids) const;

  const StringMap<std::int32_t>& vocabulary() const { return ids_; }
  std::optional<std::int32_t> id_of(std::string_view token) const;
  // Sorted by rank.
  const std::vector<std::pair<std::string, std::string>>& merges() const { return merges_; }
  bool byte_fallback() const { return byte_fallback_; }
  bool ignore_merges() const { return ignore_merges_; }
  const std::string& unknown_token() const { return unknown_token_; }

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };
  struct Merger;

  void read_vocabulary(const JsonNode& vocabulary);
  void read_merges(const JsonNode& merges);
  void read_unknown_token(const JsonNode& model);
  TokenIds characters(std::string_view word) const;
  bool append_bytes(std::string_view character, TokenIds& ids) const;
  TokenIds merged(std::string_view word) const;
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;

  StringMap<std::int32_t> ids_;
  std::vector<std::pair<std::string, std::string>> merges_;
  std::unordered_map<std::uint64_t, Merge> merge_of_pair_;
  std::vector<std::optional<std::int32_t>> byte_ids_;  // ids of "<0x00>" ... "<0xFF>"
  std::string unknown_token_;
  std::optional<std::int32_t> unknown_id_;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

class Bpe::Cache {
 public:
  const TokenIds* find(std::string_view word) const;
  void keep(std::string_view word, TokenIds ids);

 private:
  StringMap<TokenIds> words_;
};

}  // namespace calque::text
