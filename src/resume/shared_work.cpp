#include "calque/resume/shared_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "calque/core/stopwatch.h"
#include "calque/io/file.h"
#include "calque/io/sha256.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;

text::PackedTokens copy_of(const text::PackedTokens& packed) {
  text::PackedTokens copy;
  copy.blocks.ids_BS = packed.blocks.ids_BS.clone();
  copy.blocks.lengths_B = packed.blocks.lengths_B;
  copy.blocks.next_B = packed.blocks.next_B;
  copy.manifest = packed.manifest;
  return copy;
}

// True if channel scales need inputs without a rounded reader (a router's).
bool measures_all_sites(const job::Job& job, const model::FamilySpec& family) {
  const auto has_none = [](const model::SiteSpec& site) { return site.readers.empty(); };
  return job.quantization.transform->rescales_channels() &&
         std::any_of(family.blocks.begin(), family.blocks.end(), [&](const auto& block) {
           return std::any_of(block.sites.begin(), block.sites.end(), has_none);
         });
}

std::string sites_measured(const job::Job& job, const model::FamilySpec& family) {
  const bool all_tokens = job.calibration.experts == job::CalibrationSettings::Experts::kAll;
  return fmt::format("{}{}", measures_all_sites(job, family) ? "all" : "with readers",
                     all_tokens ? ", all tokens at experts" : "");
}

std::string statistics_key(const job::Job& job, const Measurement& m) {
  const auto lengths = std::as_bytes(std::span(m.tokens.lengths_B));
  return fmt::format(
      "statistics of calque " CALQUE_VERSION
      "\ntokens {} as {} x {}, lengths {}\nforward {} on {}\nsums on {}\nsites {}\nmodel {}",
      m.calibration.tokens_sha256, m.tokens.rows(), m.tokens.seqlen(), io::sha256_hex(lengths),
      m.forward_dtype, m.devices.forward, m.devices.statistics, sites_measured(job, m.family),
      io::stamp_of(job.model.path));
}

}  // namespace

SharedWork::SharedWork(Options options) : options_(std::move(options)) {}
SharedWork::~SharedWork() = default;

text::PackedTokens SharedWork::tokens(const std::string& key,
                                      const std::function<text::PackedTokens()>& make) {
  if (!options_.tokens) return make();
  const auto found = tokens_.find(key);
  if (found != tokens_.end()) {
    took("tokens", found->second.seconds);
    return copy_of(found->second.packed);
  }
  const Stopwatch watch;
  Tokens made{make(), 0};
  made.seconds = watch.seconds();
  return copy_of(tokens_.emplace(key, std::move(made)).first->second.packed);
}

StatisticsStore* SharedWork::statistics(const std::string& key) {
  if (!options_.statistics) return nullptr;
  auto& store = stores_[key];
  if (!store) store = std::make_unique<StatisticsStore>(options_.folder / "statistics", key);
  return store.get();
}

std::shared_ptr<eval::ReferenceStates> SharedWork::reference(const job::Job& job) {
  if (!options_.reference) return nullptr;
  auto& states = references_[io::stamp_of(job.model.path)];
  if (!states) {
    const bool in_files = job.runtime.max_ram > 0;
    states = std::make_shared<eval::ReferenceStates>(
        std::make_shared<io::ScratchSpace>(0, in_files ? options_.folder : fs::path()));
  }
  return states;
}

void SharedWork::took(const std::string& what, double seconds) {
  const auto same = [&](const Taken& t) { return t.what == what; };
  const auto found = std::find_if(taken_.begin(), taken_.end(), same);
  if (found == taken_.end())
    taken_.push_back({what, seconds});
  else
    found->seconds += seconds;
}

StatisticsStore* shared_statistics(const job::Job& job, const Measurement& measurement,
                                   SharedWork* shared) {
  if (!shared || job.quantization.propagate_error) return nullptr;
  StatisticsStore* store = shared->statistics(statistics_key(job, measurement));
  if (store && store->complete()) shared->took("statistics", store->seconds());
  return store;
}

}  // namespace calque::resume
