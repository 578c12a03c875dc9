#!/usr/bin/env bash
# scipy.special loads numpy.f2py, the Fortran wrapper generator with its parser, although it uses nothing of it.
#
# Seen with numpy 2.4.6 and scipy 1.17.1 on Python 3.11, Linux: after `import scipy.special`, numpy.f2py.crackfortran is in sys.modules; it
# is about a third of that import's time (`python -X importtime`). `import numpy` alone does not load it: numpy makes f2py when it is asked
# for. scipy's array-API layer does `from numpy import *`, f2py is in numpy.__all__, and so the star asks for it.
#
# Expected output:
#   after import numpy: f2py loaded: False; in __all__: True
#   numpy 2.4.6, scipy 1.17.1
#   after import scipy.special: f2py's parser loaded: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
cd "$folder"
seen=$(env/bin/python - <<'PY'
import sys

import numpy

print(f"after import numpy: f2py loaded: {'numpy.f2py' in sys.modules}; in __all__: {'f2py' in numpy.__all__}")
import scipy
import scipy.special

loaded = "numpy.f2py.crackfortran" in sys.modules
print(f"numpy {numpy.__version__}, scipy {scipy.__version__}")
print(f"after import scipy.special: f2py's parser loaded: {loaded}")
PY
)
echo "$seen"
grep -qx "numpy 2.4.6, scipy 1.17.1" <<<"$seen"
grep -qx "after import numpy: f2py loaded: False; in __all__: True" <<<"$seen"
grep -qx "after import scipy.special: f2py's parser loaded: True" <<<"$seen"
