#include "text/bpe.h"

#include <fmt/format.h>

#include <queue>

#include "calque/core/names.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

// Longer words rarely occur twice, so they are not cached.
constexpr std::size_t kMaxCachedBytes = 128;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

// "left right", or ["left", "right"] since tokenizers 0.20.
std::pair<std::string, std::string> read_pair(const JsonNode& merge) {
  if (merge.value().is_array()) {
    if (merge.size() != 2) merge.refuse("is not a pair");
    return {merge.at(std::size_t{0}).string(), merge.at(std::size_t{1}).string()};
  }
  const std::string& text = merge.string();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    merge.refuse(fmt::format("{} is not two parts with one space between", quote_name(text)));
  return {text.substr(0, space), text.substr(space + 1)};
}

void check_supported(const JsonNode& model) {
  const std::string type = model.text_or("type", "BPE");
  if (type != "BPE") unsupported(model, fmt::format("model '{}' is not implemented", type));
  if (model.has("dropout") && model.at("dropout").value() != io::Json(0.0))
    unsupported(model.at("dropout"), "is not 0: the ids would be random");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.text_or(key, "").empty()) unsupported(model.at(key), "is not implemented");
}

}  // namespace

const TokenIds* Bpe::Cache::find(std::string_view word) const {
  const auto found = words_.find(word);
  return found == words_.end() ? nullptr : &found->second;
}

void Bpe::Cache::keep(std::string_view word, TokenIds ids) {
  if (word.size() <= kMaxCachedBytes) words_.emplace(word, std::move(ids));
}

Bpe::Bpe(const JsonNode& model) {
  check_supported(model);
  byte_fallback_ = model.flag_or("byte_fallback", false);
  fuse_unknown_ = model.flag_or("fuse_unk", false);
  ignore_merges_ = model.flag_or("ignore_merges", false);
  read_vocabulary(model.at("vocab"));
  read_merges(model.at("merges"));
  read_unknown_token(model);
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_.push_back(id_of(fmt::format("<0x{:02X}>", byte)));
}

void Bpe::read_vocabulary(const JsonNode& vocabulary) {
  if (!vocabulary.value().is_object()) vocabulary.refuse("is not an object of token: id");
  ids_.reserve(vocabulary.size());
  std::vector<bool> taken;
  vocabulary.for_each_member([&](const std::string& token, const JsonNode& value) {
    const std::int64_t id = value.integer(0, kMaxTokenId);
    const auto slot = static_cast<std::size_t>(id);
    if (slot >= taken.size()) taken.resize(slot + slot / 2 + 1);
    if (taken[slot]) vocabulary.refuse(fmt::format("id {} is given to two tokens", id));
    taken[slot] = true;
    ids_.emplace(token, static_cast<std::int32_t>(id));
  });
}

void Bpe::read_merges(const JsonNode& merges) {
  merges_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    merges_.push_back(read_pair(merges.at(i)));
    const auto& [left, right] = merges_.back();
    const auto left_id = id_of(left);
    const auto right_id = id_of(right);
    const auto id = id_of(left + right);
    if (!left_id || !right_id || !id)
      merges.at(i).refuse(
          fmt::format("merges {} and {}, of which a part or the whole is not in the "
                      "vocabulary",
                      quote_name(left), quote_name(right)));
    merge_of_pair_[pair_key(*left_id, *right_id)] = {static_cast<std::int32_t>(i), *id};
  }
}

void Bpe::read_unknown_token(const JsonNode& model) {
  unknown_token_ = model.text_or("unk_token", "");
  if (!model.has("unk_token")) return;
  unknown_id_ = id_of(unknown_token_);
  if (!unknown_id_)
    model.at("unk_token")
        .refuse(fmt::format("{} is not in the vocabulary", quote_name(unknown_token_)));
}

std::optional<std::int32_t> Bpe::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found = merge_of_pair_.find(pair_key(left, right));
  return found == merge_of_pair_.end() ? nullptr : &found->second;
}

bool Bpe::append_bytes(std::string_view character, TokenIds& ids) const {
  for (const char byte : character)
    if (!byte_ids_[static_cast<unsigned char>(byte)]) return false;
  for (const char byte : character) ids.push_back(*byte_ids_[static_cast<unsigned char>(byte)]);
  return true;
}

// As in the reference library, an unknown token is emitted only when a known character follows, so
// that neighbors can fuse. Byte tokens do not emit it earlier.
TokenIds Bpe::characters(std::string_view word) const {
  TokenIds ids;
  ids.reserve(word.size());
  bool waiting = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t begin = at;
    next_code_point(word, at);
    const std::string_view character = word.substr(begin, at - begin);
    if (const auto id = id_of(character)) {
      if (waiting) ids.push_back(*unknown_id_);
      waiting = false;
      ids.push_back(*id);
    } else if (!(byte_fallback_ && append_bytes(character, ids)) && unknown_id_) {
      if (waiting && !fuse_unknown_) ids.push_back(*unknown_id_);
      waiting = true;
    }
  }
  if (waiting) ids.push_back(*unknown_id_);
  return ids;
}

// Symbols as a linked list over fixed places, and candidates in a queue: O(n log n) for a word of
// any length. Models like SentencePiece treat a whole text as one word.
struct Bpe::Merger {
  struct Symbol {
    std::int32_t id;
    std::int32_t previous;  // place, -1 at the ends
    std::int32_t next;
    bool alive = true;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t place;  // place of the left symbol
    std::int32_t id;     // id of the merged symbol

    // Lowest rank first, then leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };

  const Bpe& bpe;
  std::vector<Symbol> symbols;
  std::priority_queue<Candidate> queue;

  Symbol& at(std::int32_t place) { return symbols[static_cast<std::size_t>(place)]; }

  void offer(std::int32_t place) {
    if (place < 0 || at(place).next < 0) return;
    const Merge* merge = bpe.find_merge(at(place).id, at(at(place).next).id);
    if (merge != nullptr) queue.push({merge->rank, place, merge->id});
  }

  // True if the pair that made `candidate` still exists.
  bool is_current(const Candidate& candidate) {
    const Symbol& left = at(candidate.place);
    if (!left.alive || left.next < 0) return false;
    const Merge* merge = bpe.find_merge(left.id, at(left.next).id);
    return merge != nullptr && merge->id == candidate.id;
  }

  void apply(const Candidate& candidate) {
    Symbol& left = at(candidate.place);
    Symbol& right = at(left.next);
    right.alive = false;
    left.id = candidate.id;
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = candidate.place;
    offer(left.previous);
    offer(candidate.place);
  }

  TokenIds run(const TokenIds& characters) {
    const auto count = static_cast<std::int32_t>(characters.size());
    symbols.reserve(characters.size());
    for (std::int32_t i = 0; i < count; ++i)
      symbols.push_back(
          {characters[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
    for (std::int32_t i = 0; i < count; ++i) offer(i);
    while (!queue.empty()) {
      const Candidate candidate = queue.top();
      queue.pop();
      if (is_current(candidate)) apply(candidate);
    }
    TokenIds ids;
    for (const Symbol& symbol : symbols)
      if (symbol.alive) ids.push_back(symbol.id);
    return ids;
  }
};

TokenIds Bpe::merged(std::string_view word) const {
  return Merger{.bpe = *this, .symbols = {}, .queue = {}}.run(characters(word));
}

void Bpe::encode(std::string_view word, Cache& cache, TokenIds& ids) const {
  if (ignore_merges_) {
    if (const auto whole = id_of(word)) return ids.push_back(*whole);
  }
  if (const TokenIds* known = cache.find(word)) {
    ids.insert(ids.end(), known->begin(), known->end());
    return;
  }
  TokenIds found = merged(word);
  ids.insert(ids.end(), found.begin(), found.end());
  cache.keep(word, std::move(found));
}

}  // namespace calque::text
