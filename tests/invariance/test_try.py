import time, swift, pytest
from tests.invariance.conftest import FAMILIES
@pytest.mark.parametrize("family", FAMILIES)
def test_x(family, family_folder, tmp_path):
    t=time.time(); f=family_folder(family); print(family,"made",time.time()-t)
    t=time.time()
    rows=[{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}]*4
    import json
    p=tmp_path/"r.jsonl"; p.write_text("".join(json.dumps(r)+"\n" for r in rows))
    r=swift.sft(model=str(f), dataset=[str(p)], output_dir=str(tmp_path/"o"), max_steps=2, split_dataset_ratio=0, report_to="none")
    print(family, time.time()-t, r["last_model_checkpoint"])
