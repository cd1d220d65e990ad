#include "calque/text/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "calque/core/error.h"
#include "calque/io/sha256.h"
#include "text/documents.h"
#include "text/token_stream.h"

namespace calque::text {

// ---- Tokens of sources, and the rows that can be cut from them

namespace {

// True if the text itself (or a chat template) already begins with the prefix at `begin`.
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
  throw Error(ErrorKind::kConfig, "E204",
              fmt::format("{}: weight {} is not a share; give a number from 0 to 1",
                          source.path.string(), source.weight));
}

}  // namespace

TokenStream tokenize_source(const TextSource& source, const Tokenizer& tokenizer,
                            bool parse_special, const std::filesystem::path& model) {
  TokenStream stream;
  stream.report.path = source.path.filename().string();
  stream.report.sha256 = io::sha256_hex_of_file(source.path);
  for_each_document(source, model, [&](const Document& document) {
    const TokenIds ids = tokenizer.encode(document.text, parse_special || document.rendered);
    stream.ids.insert(stream.ids.end(), ids.begin(), ids.end());
    stream.document_ends.push_back(stream.ids.size());
    stream.report.invalid_utf8 += document.repaired ? 1 : 0;
    stream.report.plain_conversations += document.plain ? 1 : 0;
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
  double unweighted = 0;  // entries of the job
  for (const TextSource& source : sources) {
    check_weight(source);
    sum += source.weight;
    unweighted += source.weight == 0 ? source.part : 0;
  }
  if (unweighted > 0 && sum >= 1)
    throw Error(ErrorKind::kConfig, "E204",
                fmt::format("the weights of the sources add up to {}, which leaves nothing for the "
                            "{:.0f} without a weight; give every source a weight",
                            sum, unweighted));
  std::vector<double> shares;
  for (const TextSource& source : sources) {
    const double rest = unweighted > 0 ? (1 - sum) / unweighted * source.part : 0;
    // If all sources have weights, only their proportions count.
    shares.push_back(source.weight == 0 ? rest : source.weight / (unweighted > 0 ? 1.0 : sum));
  }
  return shares;
}

void settle_weights(std::vector<TextSource>& sources) {
  if (std::ranges::all_of(sources, [](const TextSource& s) { return s.part == 1; })) return;
  const std::vector<double> shares = row_shares(sources);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    sources[i].weight = shares[i];
    sources[i].part = 1;
  }
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

// ---- Packing

namespace {

// The rows of all sources, and the shares that they are to give.
struct Supply {
  std::vector<TokenStream> streams;
  std::vector<std::vector<Row>> rows;
  std::vector<double> shares;
  std::vector<bool> may_run_out;

  std::int64_t available(std::size_t source) const {
    return static_cast<std::int64_t>(rows[source].size());
  }
  std::int64_t available() const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) sum += available(i);
    return sum;
  }
  bool suffices(const std::vector<std::int64_t>& counts) const {
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (counts[i] > available(i)) return false;
    return true;
  }
  std::vector<std::int64_t> counts(std::int64_t n) const;
};

// The rows that each source gives. Those that run out give all they have, and the rest is divided
// anew among the others, until nothing is missing or there are no others.
std::vector<std::int64_t> Supply::counts(std::int64_t n) const {
  std::vector<std::int64_t> given(rows.size());
  std::vector<double> open = shares;
  for (std::int64_t left = n;;) {
    const std::vector<std::int64_t> counts = apportion(left, open);
    bool fits = true;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!may_run_out[i] || counts[i] <= available(i)) continue;
      given[i] = available(i);
      open[i] = 0;
      left -= given[i];
      fits = false;
    }
    if (fits) {
      for (std::size_t i = 0; i < rows.size(); ++i) given[i] += counts[i];
      return given;
    }
    const double sum = std::accumulate(open.begin(), open.end(), 0.0);
    if (sum == 0) return apportion(n, shares);  // all of them together have too few
    for (double& share : open) share /= sum;
  }
}

TokenIds prefix_of(const Tokenizer& tokenizer, const PackingOptions& options) {
  return options.add_bos ? tokenizer.prefix() : TokenIds{};
}

Supply supply_of(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                 const PackingOptions& options, const std::filesystem::path& model) {
  if (sources.empty()) throw Error(ErrorKind::kConfig, "E203", "no text sources are given");
  Supply supply;
  supply.shares = row_shares(sources);
  for (const TextSource& source : sources) {
    supply.may_run_out.push_back(source.may_run_out);
    supply.streams.push_back(tokenize_source(source, tokenizer, options.parse_special, model));
    supply.rows.push_back(cut_rows(supply.streams.back(), prefix_of(tokenizer, options), options));
  }
  return supply;
}

void check_options(const TokenIds& prefix, const PackingOptions& options) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorKind::kConfig, "E106", message);
  };
  if (options.n_samples < 1)
    refuse(fmt::format("n_samples is {}, not at least 1", options.n_samples));
  const auto special = static_cast<std::int64_t>(prefix.size());
  if (options.seqlen <= special)
    refuse(
        fmt::format("seqlen {} has no room for text after {} special token{}; set a larger seqlen",
                    options.seqlen, special, special == 1 ? "" : "s"));
  // Rows are addressed by 64-bit offsets and held in memory.
  if (options.seqlen > (std::int64_t{1} << 40) / options.n_samples)
    refuse(fmt::format("n_samples {} x seqlen {} tokens are more than memory can hold",
                       options.n_samples, options.seqlen));
}

// The largest number of rows, up to `n`, that is possible at these shares. Because of rounding a
// larger n may fit although a smaller one does not, so the search goes downwards.
std::int64_t most_rows(const Supply& supply, std::int64_t n) {
  n = std::min(n, supply.available());
  for (std::size_t i = 0; i < supply.rows.size(); ++i) {
    if (supply.may_run_out[i]) continue;
    const double limit = (static_cast<double>(supply.rows[i].size()) + 1) / supply.shares[i];
    if (limit < static_cast<double>(n)) n = static_cast<std::int64_t>(limit) + 1;
  }
  while (n > 0 && !supply.suffices(supply.counts(n))) --n;
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
      return "packing: pad gives one row per document; concat may give more.";
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

void check_packing(const Tokenizer& tokenizer, const PackingOptions& options) {
  check_options(prefix_of(tokenizer, options), options);
}

std::int64_t rows_available(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                            const PackingOptions& options, const std::filesystem::path& model) {
  check_packing(tokenizer, options);
  return most_rows(supply_of(sources, tokenizer, options, model), options.n_samples);
}

std::vector<std::string> texts_of(const TextSource& source, const std::filesystem::path& model) {
  std::vector<std::string> texts;
  for_each_document(source, model,
                    [&texts](const Document& document) { texts.push_back(document.text); });
  return texts;
}

PackedTokens pack_tokens(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                         const PackingOptions& options, const std::filesystem::path& model) {
  const TokenIds prefix = prefix_of(tokenizer, options);
  check_options(prefix, options);
  Supply supply = supply_of(sources, tokenizer, options, model);
  const auto counts = supply.counts(options.n_samples);
  if (!supply.suffices(counts))
    refuse_too_few(supply, options, apportion(options.n_samples, supply.shares));

  PackedTokens packed;
  const auto chosen = choose(supply, counts, options.seed);
  packed.blocks = gather(supply, chosen, prefix, options.seqlen);
  for (const TokenStream& stream : supply.streams) packed.manifest.sources.push_back(stream.report);
  packed.manifest.tokenizer = tokenizer.description();
  describe_tokens(packed.blocks, packed.manifest);
  return packed;
}

}  // namespace calque::text
