#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"

namespace calque::formats {

// A file of an artifact, before it is written.
struct PlannedFile {
  std::string name;  // relative to the export's folder; GGUF: to the folder of the file
  std::uint64_t bytes = 0;
  bool weights = false;  // counted by ArtifactReader::file_bytes
};

// Every file that a writer with these inputs will make, with its exact length: weights with their
// headers, padding and indices; for folders also settings and copied files. Reads headers,
// tokenizer and settings of the source; writes nothing. Files that publishing adds (README.md,
// calque/, SHA256SUMS) are not included.
std::vector<PlannedFile> planned_files(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
