#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "calque/text/corpus.h"

namespace calque::text {

// SplitMix64 (Steele, Lea, Flood 2014). The standard library's distributions and std::shuffle give
// different numbers on different platforms; this gives the same numbers everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // Uniform in [0, bound); values that would favor small results are drawn again.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t unfair = (0 - bound) % bound;  // 2^64 mod bound
    std::uint64_t drawn = next();
    while (drawn < unfair) drawn = next();
    return drawn % bound;
  }

 private:
  std::uint64_t state_;
};

// Fisher-Yates shuffle, from the end.
template <typename T>
void shuffle(std::vector<T>& items, Random& random) {
  for (std::size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[static_cast<std::size_t>(random.below(i))]);
}

// The tokens of one source, documents one after the other.
struct TokenStream {
  TokenIds ids;
  std::vector<std::size_t> document_ends;
  SourceReport report;

  std::size_t document_begin(std::size_t document) const {
    return document == 0 ? 0 : document_ends[document - 1];
  }
};
TokenStream tokenize_source(const TextSource& source, const Tokenizer& tokenizer,
                            bool parse_special, const std::filesystem::path& model);

// A row of a block: the prefix if `prefixed`, then `count` tokens of the stream from `begin`.
struct Row {
  std::size_t begin = 0;
  std::size_t count = 0;
  bool prefixed = false;
};
// The rows that `stream` can give, in order; counts skipped documents in its report.
std::vector<Row> cut_rows(TokenStream& stream, const TokenIds& prefix,
                          const PackingOptions& options);

// Each source's share of the rows. Error(kConfig) for invalid weights.
std::vector<double> row_shares(const std::vector<TextSource>& sources);
// Divides `n` rows by shares, rounded so that they add up: largest remainders first.
std::vector<std::int64_t> apportion(std::int64_t n, const std::vector<double>& shares);

// Sets tokens_sha256 and first_ids.
void describe_tokens(const TokenBlocks& blocks, Manifest& manifest);

// 1048576 -> "1,048,576"
std::string with_commas(std::int64_t number);

}  // namespace calque::text
