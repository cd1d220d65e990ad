#include "resume/shared_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "calque/io/sha256.h"

namespace calque::resume {
namespace {

// Channel scales also look at inputs that nothing rounded reads (routers').
bool measures_all_sites(const job::Job& job, const model::FamilySpec& family) {
  const auto has_none = [](const model::SiteSpec& site) { return site.readers.empty(); };
  return job.quantization.transform->rescales_channels() &&
         std::any_of(family.blocks.begin(), family.blocks.end(), [&](const auto& block) {
           return std::any_of(block.sites.begin(), block.sites.end(), has_none);
         });
}

std::string statistics_key(const job::Job& job, const Measurement& m) {
  const auto lengths = std::as_bytes(std::span(m.tokens.lengths_B));
  return fmt::format(
      "statistics of calque " CALQUE_VERSION
      "\ntokens {} as {} x {}, lengths {}\nforward {} on {}\nsums on {}\nsites {}\nmodel {}",
      m.calibration.tokens_sha256, m.tokens.rows(), m.tokens.seqlen(), io::sha256_hex(lengths),
      m.forward_dtype, m.devices.forward, m.devices.statistics,
      measures_all_sites(job, m.family) ? "all" : "with readers", identity_of(job.model.path));
}

}  // namespace

StatisticsStore* shared_statistics(const job::Job& job, const Measurement& measurement,
                                   SharedWork* shared) {
  if (!shared || job.quantization.propagate_error) return nullptr;
  StatisticsStore* store = shared->statistics(statistics_key(job, measurement));
  if (store && store->complete()) shared->took("statistics", store->seconds());
  return store;
}

}  // namespace calque::resume
