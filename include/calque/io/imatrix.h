#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"

namespace calque::io {

// llama.cpp's importance matrix: the sums of squares of the inputs that each column of a weight
// matrix multiplied over a calibration text. Names are GGUF's ("blk.0.attn_q.weight"); a tensor of
// stacked experts has one matrix per expert. src/io/imatrix.cpp describes the two file formats.
struct ImatrixEntry {
  Index matrices = 1;
  std::vector<double> sums;    // [matrices * columns] of x^2
  std::vector<double> counts;  // [matrices] tokens

  Index columns() const { return static_cast<Index>(sums.size()) / matrices; }
  // sum / count of matrix `m`; all ones if it has seen no token.
  std::vector<float> mean_square(Index m) const;
};

struct Imatrix {
  std::map<std::string, ImatrixEntry, std::less<>> entries;
  std::vector<std::string> datasets;  // names of the texts, as stored in the file
  std::int64_t chunks = 0;
  std::int64_t chunk_size = 0;  // tokens

  const ImatrixEntry* find(std::string_view gguf_name) const;
  // Adds the sums and counts of `other`. Error(kInput) if shapes differ. Counts of the older format
  // are chunks; they become tokens if the other file states the chunk size.
  void add(const Imatrix& other);
  // Keeps only the file name of each dataset: some tools store the path they were given.
  void drop_folders();
};

// Reads either format, decided by the first four bytes: GGUF (general.type "imatrix", in_sum2 and
// counts), or the older .dat. Error(kInput), naming file, entry and values, if it is neither, is
// truncated or damaged, or holds a sum that is negative or not finite.
Imatrix read_imatrix(const std::filesystem::path& file);

enum class ImatrixFormat { kByName, kGguf, kDat };  // kByName: "*.dat" is the older one, else GGUF

// Written atomically. Error(kInput) for entries that could not be read back.
void write_imatrix(const Imatrix& imatrix, const std::filesystem::path& file,
                   ImatrixFormat format = ImatrixFormat::kByName);

}  // namespace calque::io
