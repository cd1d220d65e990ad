#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"

namespace calque::formats {

// A file of an artifact before it is written.
struct PlannedFile {
  std::string name;  // in the export's folder; of a GGUF export, in the folder that it is in
  std::uint64_t bytes = 0;
  bool weights = false;  // what ArtifactReader::file_bytes counts
};

// Every file that a writer with these inputs makes, with its exact length: weights with their
// headers, padding and indices; of folders the settings and the files that are copied beside them.
// Reads headers, tokenizer and settings of the source, writes nothing. What is added when a folder
// is made ready to be uploaded (README.md, calque/, SHA256SUMS) is not among them.
std::vector<PlannedFile> planned_files(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
