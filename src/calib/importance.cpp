#include "calque/calib/importance.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::calib {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kInput, "E234", message);
}

// The slab of one expert. Files of the older format store all slabs as one matrix.
std::vector<float> mean_square(const io::ImatrixEntry& entry, Index matrices, Index slab) {
  if (entry.matrices == matrices) return entry.mean_square(slab);
  const std::vector<float> all = entry.mean_square(0);
  const auto columns = static_cast<std::ptrdiff_t>(all.size()) / matrices;
  return {all.begin() + slab * columns, all.begin() + (slab + 1) * columns};
}

bool fits(const io::ImatrixEntry& entry, Index matrices, Index columns) {
  return static_cast<Index>(entry.sums.size()) == matrices * columns &&
         (entry.matrices == matrices || entry.matrices == 1);
}

std::string size_text(Index matrices, Index columns) {
  return matrices == 1 ? fmt::format("{} columns", columns)
                       : fmt::format("{} matrices of {} columns", matrices, columns);
}

io::ImatrixEntry empty_entry(Index matrices, Index columns) {
  io::ImatrixEntry entry;
  entry.matrices = matrices;
  entry.sums.assign(static_cast<std::size_t>(matrices * columns), 0.0);
  entry.counts.assign(static_cast<std::size_t>(matrices), 0.0);
  return entry;
}

}  // namespace

void check_has_gguf_names(const model::FamilySpec& family) {
  if (!family.gguf_architecture.empty()) return;
  throw Error(ErrorKind::kConfig, "E123",
              fmt::format("an importance matrix names tensors as GGUF does, which has no names for "
                          "models of the family '{}' here",
                          family.name));
}

void add_to_imatrix(const model::SiteSpec& site, std::span<const double> sums_K, Index tokens,
                    io::Imatrix& imatrix) {
  for (const model::LinearSpec& linear : site.readers) {
    const model::TensorSpec& weight = linear.weight;
    const Index columns = linear.in_features();
    const std::vector<Index> order = weight.gguf_columns.order(columns);
    for (const std::string& name : {weight.gguf_name, weight.gguf_rest_name}) {
      if (name.empty()) continue;
      io::ImatrixEntry& entry =
          imatrix.entries.try_emplace(name, empty_entry(weight.gguf_slabs, columns)).first->second;
      const Index slab = std::max<Index>(weight.gguf_expert, 0);
      for (std::size_t k = 0; k < sums_K.size(); ++k)
        entry.sums[static_cast<std::size_t>(slab * columns) + k] =
            sums_K[order.empty() ? k : static_cast<std::size_t>(order[k])];
      entry.counts[static_cast<std::size_t>(slab)] = static_cast<double>(tokens);
    }
  }
}

Importance::Importance(io::Imatrix imatrix, const model::FamilySpec& family, std::string name)
    : imatrix_(std::move(imatrix)), name_(std::move(name)) {
  imatrix_.drop_folders();
  for (const model::LinearSpec& linear : family.linears())
    take(linear.weight, linear.weight.gguf_slabs, true);
  if (stats_.empty())
    refuse(
        fmt::format("{} holds nothing for this model: none of its {} entries ({}, ...) is one "
                    "of the model's matrices ({}, ...). Was it measured on another model?",
                    name_, imatrix_.entries.size(), quote_name(imatrix_.entries.begin()->first),
                    missing_.front()));
  // Not strict: like llama-quantize, ignore an entry of another size, which was measured as an
  // output.
  take(family.embedding, 1, false);
  if (!family.lm_head.empty()) take(family.lm_head.front(), 1, true);
}

void Importance::take(const model::TensorSpec& weight, Index matrices, bool strict) {
  const io::ImatrixEntry* entry = imatrix_.find(weight.gguf_name);
  if (entry == nullptr) entry = imatrix_.find(weight.gguf_pair_name);
  const bool in_block = weight.gguf_name.starts_with("blk.");
  if (entry == nullptr) {
    const auto known = std::find(missing_.begin(), missing_.end(), weight.gguf_name);
    if (in_block && known == missing_.end()) missing_.push_back(weight.gguf_name);
    return;
  }
  const Index columns = weight.shape[1];
  if (!fits(*entry, matrices, columns)) {
    if (!strict) return;
    refuse(
        fmt::format("{}: entry '{}' has {}, the model's tensor '{}' has {}. Was it measured on "
                    "another model?",
                    name_, weight.gguf_name, size_text(entry->matrices, entry->columns()),
                    weight.name, size_text(matrices, columns)));
  }
  const std::vector<float> stored =
      mean_square(*entry, matrices, std::max<Index>(weight.gguf_expert, 0));
  std::vector<float>& own = stats_[weight.name].given_mean_square_K;
  own = stored;
  const std::vector<Index> order = weight.gguf_columns.order(columns);
  for (std::size_t k = 0; k < order.size(); ++k)
    own[static_cast<std::size_t>(order[k])] = stored[k];
}

const quant::InputStats& Importance::stats_of(const model::TensorSpec& weight) const {
  static const quant::InputStats kNone;
  const auto found = stats_.find(weight.name);
  return found == stats_.end() ? kNone : found->second;
}

std::string Importance::warning() const {
  if (missing_.empty()) return "";
  return fmt::format(
      "{} holds nothing for {} of the model's matrices ('{}'{}): they are rounded "
      "without importance",
      name_, missing_.size(), missing_.front(), missing_.size() > 1 ? ", ..." : "");
}

formats::ImatrixNote Importance::note() const {
  return {.file = name_,
          .dataset = fmt::format("{}", fmt::join(imatrix_.datasets, ", ")),
          .entries = static_cast<std::uint32_t>(imatrix_.entries.size()),
          .chunks = static_cast<std::uint32_t>(imatrix_.chunks)};
}

std::optional<Importance> load_importance(const std::filesystem::path& path,
                                          const model::FamilySpec& family) {
  if (path.empty()) return std::nullopt;
  return Importance(io::read_imatrix(path), family, path.filename().string());
}

std::size_t matrix_names(const model::FamilySpec& family) {
  std::vector<std::string> names;
  for (const model::LinearSpec& linear : family.linears()) names.push_back(linear.weight.gguf_name);
  std::sort(names.begin(), names.end());
  return static_cast<std::size_t>(std::unique(names.begin(), names.end()) - names.begin());
}

void ImatrixRecorder::add(const model::BlockSpec&, const model::SiteSpec& site,
                          const quant::InputStats& stats) {
  std::vector<double> sums_K;
  for (Index k = 0; !stats.empty() && k < stats.features(); ++k)
    sums_K.push_back(stats.gram_KK(k, k));
  add_to_imatrix(site, sums_K, stats.tokens, imatrix_);
}

void ImatrixRecorder::write(const std::filesystem::path& path, std::vector<std::string> datasets,
                            Index chunks, Index chunk_size) {
  imatrix_.datasets = std::move(datasets);
  imatrix_.chunks = chunks;
  imatrix_.chunk_size = chunk_size;
  io::write_imatrix(imatrix_, path);
  written_ = true;
}

namespace {

template <typename T>
void put(const io::ByteSink& sink, const T* values, std::size_t count) {
  sink(std::as_bytes(std::span(values, count)));
}

template <typename T>
void get(const io::ByteSource& source, T* values, std::size_t count) {
  source(std::as_writable_bytes(std::span(values, count)));
}

}  // namespace

void ImatrixRecorder::save(const io::ByteSink& sink) const {
  const std::uint64_t entries = imatrix_.entries.size();
  put(sink, &entries, 1);
  for (const auto& [name, entry] : imatrix_.entries) {
    const std::uint64_t sizes[] = {name.size(), static_cast<std::uint64_t>(entry.matrices),
                                   entry.sums.size(), entry.counts.size()};
    put(sink, sizes, 4);
    put(sink, name.data(), name.size());
    put(sink, entry.sums.data(), entry.sums.size());
    put(sink, entry.counts.data(), entry.counts.size());
  }
}

void ImatrixRecorder::load(const io::ByteSource& source) {
  std::uint64_t entries = 0;
  get(source, &entries, 1);
  for (; entries > 0; --entries) {
    std::uint64_t sizes[4];
    get(source, sizes, 4);
    std::string name(sizes[0], '\0');
    get(source, name.data(), name.size());
    io::ImatrixEntry& entry = imatrix_.entries[name];
    entry.matrices = static_cast<Index>(sizes[1]);
    entry.sums.resize(sizes[2]);
    get(source, entry.sums.data(), entry.sums.size());
    entry.counts.resize(sizes[3]);
    get(source, entry.counts.data(), entry.counts.size());
  }
}

}  // namespace calque::calib
