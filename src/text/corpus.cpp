#include "calque/text/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "calque/core/error.h"
#include "text/shuffle.h"
#include "text/token_stream.h"

namespace calque::text {
namespace {

// Rows of all sources, and how many each has to give.
struct Supply {
  std::vector<TokenStream> streams;
  std::vector<std::vector<Row>> rows;
  std::vector<double> shares;

  bool suffices(const std::vector<std::int64_t>& counts) const {
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (counts[i] > static_cast<std::int64_t>(rows[i].size())) return false;
    return true;
  }
};

void check_options(const std::vector<TextSource>& sources, const TokenIds& prefix,
                   const PackingOptions& options) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorKind::kConfig, "", message);
  };
  if (sources.empty()) refuse("no text sources are given");
  if (options.n_samples < 1)
    refuse(fmt::format("n_samples is {}, not at least 1", options.n_samples));
  const auto special = static_cast<std::int64_t>(prefix.size());
  if (options.seqlen <= special)
    refuse(fmt::format("seqlen {} has no room for text after {} special tokens", options.seqlen,
                       special));
  // Rows are addressed by 64-bit offsets and held in memory.
  if (options.seqlen > (std::int64_t{1} << 40) / options.n_samples)
    refuse(fmt::format("n_samples {} x seqlen {} tokens are more than can be held",
                       options.n_samples, options.seqlen));
}

// The most rows, up to `n`, that can be had at these shares. Rounding may let a larger n fit where
// a smaller one does not, so the answer is sought from above.
std::int64_t most_rows(const Supply& supply, std::int64_t n) {
  for (std::size_t i = 0; i < supply.rows.size(); ++i) {
    const double limit = (static_cast<double>(supply.rows[i].size()) + 1) / supply.shares[i];
    if (limit < static_cast<double>(n)) n = static_cast<std::int64_t>(limit) + 1;
  }
  while (n > 0 && !supply.suffices(apportion(n, supply.shares))) --n;
  return n;
}

std::string source_line(const SourceReport& report, std::int64_t wanted) {
  std::string line =
      fmt::format("{}: {} tokens in {} documents, {} of the {} rows wanted", report.path,
                  with_commas(report.tokens), with_commas(report.documents),
                  with_commas(report.rows_available), with_commas(wanted));
  if (report.documents_skipped > 0)
    line += fmt::format(" ({} documents too short)", with_commas(report.documents_skipped));
  return line;
}

const char* advice_on_packing(Packing packing) {
  switch (packing) {
    case Packing::kConcat:
      return "Short rows are not dropped with packing: concat.";
    case Packing::kTruncate:
      return "packing: concat would use the documents that are shorter than seqlen.";
    case Packing::kPad:
      return "packing: pad gives one row a document; concat may give more.";
  }
  return "";
}

[[noreturn]] void refuse_too_few(const Supply& supply, const PackingOptions& options,
                                 const std::vector<std::int64_t>& counts) {
  std::int64_t tokens = 0;
  std::string lines;
  for (std::size_t i = 0; i < supply.streams.size(); ++i) {
    tokens += supply.streams[i].report.tokens;
    lines += (i > 0 ? "; " : "") + source_line(supply.streams[i].report, counts[i]);
  }
  const std::int64_t wanted = options.n_samples * options.seqlen;
  const std::int64_t possible = most_rows(supply, options.n_samples);
  const std::string mend = possible > 0 ? fmt::format("set n_samples: {}", possible)
                                        : std::string("use a smaller seqlen");
  throw Error(
      ErrorKind::kInput, "E201",
      fmt::format("calibration needs {} x {} = {} tokens; sources give {} ({}). Add data, or "
                  "{}. {}",
                  options.n_samples, options.seqlen, with_commas(wanted), with_commas(tokens),
                  lines, mend, advice_on_packing(options.packing)));
}

// Row `source`.`row` of the supply.
struct Choice {
  std::size_t source = 0;
  Row row;
};

std::vector<Choice> choose(Supply& supply, const std::vector<std::int64_t>& counts,
                           std::uint64_t seed) {
  Random random(seed);
  std::vector<Choice> chosen;
  for (std::size_t i = 0; i < supply.rows.size(); ++i) {
    shuffle(supply.rows[i], random);
    for (std::int64_t r = 0; r < counts[i]; ++r)
      chosen.push_back({i, supply.rows[i][static_cast<std::size_t>(r)]});
    supply.streams[i].report.rows_used = counts[i];
  }
  // Mixes the sources.
  if (supply.rows.size() > 1) shuffle(chosen, random);
  return chosen;
}

TokenBlocks gather(const Supply& supply, const std::vector<Choice>& chosen, const TokenIds& prefix,
                   std::int64_t seqlen) {
  TokenBlocks blocks;
  blocks.ids_BS = Matrix<std::int32_t>(static_cast<Index>(chosen.size()), seqlen);
  for (std::size_t b = 0; b < chosen.size(); ++b) {
    const auto& [source, row] = chosen[b];
    std::int32_t* out = blocks.ids_BS.row(static_cast<Index>(b));
    std::int32_t* end = out;
    if (row.prefixed) end = std::copy(prefix.begin(), prefix.end(), end);
    end = std::copy_n(supply.streams[source].ids.data() + row.begin, row.count, end);
    blocks.lengths_B.push_back(end - out);
  }
  return blocks;
}

}  // namespace

std::int64_t TokenBlocks::token_count() const {
  return std::accumulate(lengths_B.begin(), lengths_B.end(), std::int64_t{0});
}

PackedTokens pack_tokens(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                         const PackingOptions& options) {
  const TokenIds prefix = options.add_bos ? tokenizer.prefix() : TokenIds{};
  check_options(sources, prefix, options);
  Supply supply;
  supply.shares = row_shares(sources);
  for (const TextSource& source : sources) {
    supply.streams.push_back(tokenize_source(source, tokenizer, options.parse_special));
    supply.rows.push_back(cut_rows(supply.streams.back(), prefix, options));
  }
  const auto counts = apportion(options.n_samples, supply.shares);
  if (!supply.suffices(counts)) refuse_too_few(supply, options, counts);

  PackedTokens packed;
  const auto chosen = choose(supply, counts, options.seed);
  packed.blocks = gather(supply, chosen, prefix, options.seqlen);
  for (const TokenStream& stream : supply.streams) packed.manifest.sources.push_back(stream.report);
  packed.manifest.tokenizer = tokenizer.description();
  describe_tokens(packed.blocks, packed.manifest);
  return packed;
}

}  // namespace calque::text
