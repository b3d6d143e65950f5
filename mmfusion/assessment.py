def write_report(run): pass
def summary(runs): 
    from sklearn.metrics import average_precision_score, log_loss
    import numpy as np
    out=[]
    for r in runs:
        for s in ("validation","test"):
            p=r.predictions(s); y=p.y_true; ok=y.sum(0)>0
            bce=-np.mean(np.where(y>0,np.log(np.clip(p.y_prob,1e-7,1)),np.log(np.clip(1-p.y_prob,1e-7,1))))
            ap=average_precision_score(y[:,ok],p.y_prob[:,ok],average=None)
            out.append(f"{r.name} {s} bce {bce:.4f} micro {average_precision_score(y,p.y_prob,average='micro'):.4f} macro {ap.mean():.4f} "+(str(dict(zip(np.array(r.genres)[ok],ap.round(2)))) if s=='test' and len(r.genres)<10 else ''))
    return "\n".join(out)
