#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "calque/model/family.h"
#include "calque/quant/input_stats.h"

namespace calque::resume {

// The statistics of all input sites of a model in a folder, one file per block and one for the head
// (FamilySpec::head_block), so that jobs with
// the same statistics measure them once. Each file appears whole or not at all. Several processes
// may fill one folder, since they write the same bytes. Holds one site in memory at a time.
//
// block-0007/model.safetensors holds `sites` I64 [S], indices into BlockSpec::sites in the order of
// arrival. For site number i of these it holds `i.counts` I64 [2] (tokens, tokens left out) and,
// unless there were none, `i.gram` F32 [K (K + 1) / 2], the rows of the upper triangle one after
// another, and `i.magnitude` F64 [K]. The file `complete` holds the seconds spent on measuring.
class StatisticsStore {
 public:
  using Seen = std::vector<std::pair<const model::SiteSpec*, quant::InputStats>>;

  // `key` describes everything the statistics depend on; its hash names the folder.
  StatisticsStore(const std::filesystem::path& folder, const std::string& key);

  bool complete() const;
  double seconds() const;  // spent on measuring; 0 unless complete

  // Returns false if the disk has no room for `bytes` (all blocks); nothing is written from then
  // on.
  bool make_room(std::uint64_t bytes);
  // Saves one block's statistics. A write that fails ends the saving, not the job.
  void save(const model::BlockSpec& block, const Seen& sites);
  // Marks the store complete if all blocks are present (a resumed pass may have seen only some).
  void finish(const model::FamilySpec& family, double seconds);
  const std::string& trouble() const {
    return trouble_;
  }  // reason that nothing is written; "" if all is well

  // The sites of a block in the order of arrival.
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

// Bytes on disk for all blocks of a model.
std::uint64_t statistics_bytes(const model::FamilySpec& family);

}  // namespace calque::resume
