#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "calque/model/family.h"
#include "calque/quant/input_stats.h"

namespace calque::resume {

// The statistics of every input site of a model in a folder, a file a block, so that jobs whose
// statistics are the same measure them once. Each file appears whole or not at all; several
// processes may fill one folder, since they write the same bytes. Holds one site in memory at a
// time.
//
// block-0007/model.safetensors: `sites` I64 [S], indices into BlockSpec::sites in the order in
// which they were seen; of the i-th of them `i.counts` I64 [2] (tokens, tokens left out), and
// unless it saw none `i.gram` F32 [K (K + 1) / 2], rows of the upper triangle one after another,
// and `i.magnitude` F64 [K]. `complete` holds the seconds that measuring took.
class StatisticsStore {
 public:
  using Seen = std::vector<std::pair<const model::SiteSpec*, quant::InputStats>>;

  // `key`: what the statistics depend on; the folder is named by its hash.
  StatisticsStore(const std::filesystem::path& folder, const std::string& key);

  bool complete() const;
  double seconds() const;  // of measuring them; 0 unless complete

  // False, from then on, if the disk has no room for `bytes` (of all blocks): nothing is written.
  bool make_room(std::uint64_t bytes);
  // Those of one block. A write that fails ends the saving, not the job.
  void save(const model::BlockSpec& block, const Seen& sites);
  // Says that all blocks are there, if they are: a pass that went on where another stopped saw
  // only some.
  void finish(const model::FamilySpec& family, double seconds);
  const std::string& trouble() const { return trouble_; }  // why nothing is written; "": it is

  // The sites of a block in the order in which they were seen.
  std::vector<const model::SiteSpec*> sites(const model::BlockSpec& block) const;
  // Error(kInput, "E197") if the file is damaged.
  quant::InputStats load(const model::BlockSpec& block, const model::SiteSpec& site) const;

  const std::filesystem::path& folder() const { return folder_; }

 private:
  template <typename Read>
  auto reading(const model::BlockSpec& block, Read&& read) const;
  std::filesystem::path block_folder(const model::BlockSpec& block) const;

  std::filesystem::path folder_;
  std::string key_;
  std::string trouble_;
};

// Of all blocks of a model on disk.
std::uint64_t statistics_bytes(const model::FamilySpec& family);

}  // namespace calque::resume
