#pragma once

#include "calque/report/record.h"
#include "report/page.h"

namespace calque::report {

Page run_page(const Run& run);
Page sweep_page(const Sweep& sweep);

}  // namespace calque::report
