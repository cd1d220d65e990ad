#include "text/token_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "calque/core/error.h"
#include "calque/io/sha256.h"
#include "text/documents.h"

namespace calque::text {
namespace {

// Whether the text itself (or a chat template) already begins with the prefix at `begin`.
bool has_prefix_at(const TokenIds& ids, std::size_t begin, std::size_t end,
                   const TokenIds& prefix) {
  return end - begin >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin));
}

Row row_at(const TokenStream& stream, std::size_t begin, std::size_t end, const TokenIds& prefix,
           std::size_t seqlen) {
  const bool prefixed = !has_prefix_at(stream.ids, begin, end, prefix);
  const std::size_t room = prefixed ? seqlen - prefix.size() : seqlen;
  return {begin, std::min(room, end - begin), prefixed};
}

std::size_t length(const Row& row, const TokenIds& prefix) {
  return row.count + (row.prefixed ? prefix.size() : 0);
}

std::vector<Row> windows(const TokenStream& stream, const TokenIds& prefix, std::size_t seqlen) {
  std::vector<Row> rows;
  for (std::size_t begin = 0; begin < stream.ids.size();) {
    const Row row = row_at(stream, begin, stream.ids.size(), prefix, seqlen);
    if (length(row, prefix) < seqlen) break;
    rows.push_back(row);
    begin += row.count;
  }
  return rows;
}

std::vector<Row> document_rows(TokenStream& stream, const TokenIds& prefix, std::size_t seqlen,
                               bool full_only) {
  std::vector<Row> rows;
  for (std::size_t i = 0; i < stream.document_ends.size(); ++i) {
    const std::size_t begin = stream.document_begin(i);
    const Row row = row_at(stream, begin, stream.document_ends[i], prefix, seqlen);
    const bool kept = full_only ? length(row, prefix) == seqlen : row.count > 0;
    if (kept) rows.push_back(row);
    stream.report.documents_skipped += kept ? 0 : 1;
  }
  return rows;
}

void check_weight(const TextSource& source) {
  if (std::isfinite(source.weight) && source.weight >= 0) return;
  throw Error(ErrorKind::kConfig, "",
              fmt::format("{}: weight {} is not a share; give a number from 0 to 1",
                          source.path.string(), source.weight));
}

}  // namespace

TokenStream tokenize_source(const TextSource& source, const Tokenizer& tokenizer,
                            bool parse_special) {
  TokenStream stream;
  stream.report.path = source.path.filename().string();
  stream.report.sha256 = io::sha256_hex_of_file(source.path);
  for_each_document(source, [&](const std::string& document, bool repaired) {
    const TokenIds ids = tokenizer.encode(document, parse_special);
    stream.ids.insert(stream.ids.end(), ids.begin(), ids.end());
    stream.document_ends.push_back(stream.ids.size());
    stream.report.invalid_utf8 += repaired ? 1 : 0;
  });
  stream.report.documents = static_cast<std::int64_t>(stream.document_ends.size());
  stream.report.tokens = static_cast<std::int64_t>(stream.ids.size());
  return stream;
}

std::vector<Row> cut_rows(TokenStream& stream, const TokenIds& prefix,
                          const PackingOptions& options) {
  const auto seqlen = static_cast<std::size_t>(options.seqlen);
  std::vector<Row> rows;
  switch (options.packing) {
    case Packing::kConcat:
      rows = windows(stream, prefix, seqlen);
      break;
    case Packing::kTruncate:
      rows = document_rows(stream, prefix, seqlen, true);
      break;
    case Packing::kPad:
      rows = document_rows(stream, prefix, seqlen, false);
      break;
  }
  stream.report.rows_available = static_cast<std::int64_t>(rows.size());
  return rows;
}

std::vector<double> row_shares(const std::vector<TextSource>& sources) {
  double sum = 0;
  std::size_t unweighted = 0;
  for (const TextSource& source : sources) {
    check_weight(source);
    sum += source.weight;
    unweighted += source.weight == 0 ? 1 : 0;
  }
  if (unweighted > 0 && sum >= 1)
    throw Error(ErrorKind::kConfig, "",
                fmt::format("the weights of the sources add up to {}, which leaves nothing for the "
                            "{} without a weight; give every source a weight",
                            sum, unweighted));
  std::vector<double> shares;
  for (const TextSource& source : sources) {
    const double rest = unweighted > 0 ? (1 - sum) / static_cast<double>(unweighted) : 0;
    // Where all have weights, only their proportions count.
    shares.push_back(source.weight == 0 ? rest : source.weight / (unweighted > 0 ? 1.0 : sum));
  }
  return shares;
}

std::vector<std::int64_t> apportion(std::int64_t n, const std::vector<double>& shares) {
  std::vector<std::int64_t> counts;
  std::vector<double> remainders;
  for (const double share : shares) {
    const double exact = share * static_cast<double>(n);
    counts.push_back(static_cast<std::int64_t>(std::floor(exact)));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&remainders](std::size_t a, std::size_t b) {
    return remainders[a] > remainders[b];
  });
  std::int64_t missing = n - std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  for (std::size_t i = 0; missing > 0; i = (i + 1) % order.size(), --missing) ++counts[order[i]];
  return counts;
}

void describe_tokens(const TokenBlocks& blocks, Manifest& manifest) {
  const auto& ids = blocks.ids_BS;
  const auto count = static_cast<std::size_t>(ids.size());
  manifest.tokens_sha256 =
      io::sha256_hex(std::as_bytes(std::span<const std::int32_t>(ids.data(), count)));
  const auto shown = static_cast<std::ptrdiff_t>(std::min<Index>(16, ids.empty() ? 0 : ids.cols()));
  manifest.first_ids.assign(ids.data(), ids.data() + shown);
}

std::string with_commas(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  return digits;
}

}  // namespace calque::text
