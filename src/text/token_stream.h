#pragma once

#include <vector>

#include "calque/text/corpus.h"

namespace calque::text {

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
                            bool parse_special);

// A row of a block: the prefix if `prefixed`, then `count` tokens of the stream from `begin`.
struct Row {
  std::size_t begin = 0;
  std::size_t count = 0;
  bool prefixed = false;
};
// The rows that `stream` can give, in order; counts skipped documents in its report.
std::vector<Row> cut_rows(TokenStream& stream, const TokenIds& prefix,
                          const PackingOptions& options);

// The share of the rows of each source. Error(kConfig) for weights that make no sense.
std::vector<double> row_shares(const std::vector<TextSource>& sources);
// `n` rows divided by shares, rounded so that they add up: largest remainders first.
std::vector<std::int64_t> apportion(std::int64_t n, const std::vector<double>& shares);

// Fills tokens_sha256, first_ids.
void describe_tokens(const TokenBlocks& blocks, Manifest& manifest);

// 1048576 -> "1,048,576"
std::string with_commas(std::int64_t number);

}  // namespace calque::text
