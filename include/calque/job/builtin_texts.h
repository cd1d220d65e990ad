#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/text/corpus.h"

namespace calque::job {

// The word for calque's own calibration texts: `calibration: {sources: [builtin]}`.
inline constexpr const char* kBuiltin = "builtin";

// The folder of these texts: share/calque/calibration beside the program's folder, or
// calibration_data of the source tree that holds the program. Error(kInput, "E218") if neither is
// there.
std::filesystem::path builtin_folder();

// The texts, one source each, in the order of their names. Held-out texts are not among them.
std::vector<text::TextSource> builtin_sources();

// The text that nothing is calibrated on, for evaluation.
std::filesystem::path builtin_heldout_text();

// A source's name in records: "builtin/prose.txt", or the file's name without its folder.
std::string name_of_source(const text::TextSource& source);

}  // namespace calque::job
