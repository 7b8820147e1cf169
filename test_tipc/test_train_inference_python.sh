#!/bin/bash
# As TIPC calls it: bash test_tipc/test_train_inference_python.sh test_tipc/configs/METHOD/train_infer_python.txt lite_train_lite_infer
exec "${PYTHON:-python3}" -m test_tipc.chain "$@"
