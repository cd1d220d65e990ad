#pragma once

#include <string>
#include <vector>

#include "calque/report/record.h"
#include "report/page.h"

namespace calque::report {

std::vector<const SweepPoint*> with_status(const Sweep& sweep, const std::string& status);

// The points that are done, a row each; those that no other beats in both size and KL divergence
// stand out.
HtmlTable points_table(const Sweep& sweep);
// The points that failed, with their errors.
HtmlTable failed_table(const Sweep& sweep);

}  // namespace calque::report
