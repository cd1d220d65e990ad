#pragma once

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "formats/module_patterns.h"
#include "formats/packed_format.h"

namespace calque::formats {

// quantization_config of a folder, read twice: for use, where what calque does not know is an
// Error(kInput), and for verification, where what is wrong is a fault and the rest is read on.

// Settings of the folder; nullopt for a plain checkpoint. Error(kInput) for a method, layout or
// width that calque does not read.
std::optional<PackedSettings> packed_settings(const std::filesystem::path& folder,
                                              const io::SafetensorsCheckpoint& checkpoint);

using KeyNames = std::initializer_list<const char*>;  // spellings of one key

// The first of `names` that is present and not null; null if none is, or `object` is no object.
const io::Json* find_any(const io::Json& object, KeyNames names);

// Reading for use: a value of another type is an Error(kInput) naming `where` and the key.
[[noreturn]] void refuse_config(const std::string& where, const std::string& reason);
std::string text_of(const io::Json& object, KeyNames names, const std::string& where,
                    std::string fallback);  // in lower case
std::optional<bool> flag_of(const io::Json& object, KeyNames names, const std::string& where);
// Sets bits, which have to be one of the format's, and group_size.
void read_widths(const io::Json& json, KeyNames bits_names, Index default_group_size,
                 PackedSettings& settings);
// "dynamic": rules that give single modules bits or groups of their own. Those that only leave
// modules alone ("-:...") mean nothing here, because modules are found by their tensors.
void read_dynamic_rules(const io::Json& json, PackedSettings& settings);

// Reading for verification: a value of another type counts as absent.
std::string text_in(const io::Json& object, KeyNames names);  // in lower case; ""
bool flag_in(const io::Json& object, KeyNames names);         // false
std::vector<std::string> strings_in(const io::Json* list);    // of a list, or null
void read_widths_in(const io::Json& object, ConfiguredSettings& settings);
// Anchored at the start, as Python's re.match. nullopt (and a fault): no regular expression.
std::optional<ModuleMatcher> regex_in_config(const std::string& pattern,
                                             std::vector<std::string>& faults);
// A pattern that takes too long decides nothing.
bool safely_matches(const ModuleMatcher& matcher, const std::string& module);

}  // namespace calque::formats
